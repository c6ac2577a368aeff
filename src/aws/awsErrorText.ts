/**
 * AWS' own words without a secret: known ones are taken out by value, others by their look. '' where nothing is left,
 * or where it is a page and no message.
 */
export function awsErrorText(message: string, secrets: readonly string[]): string {
  let text = message;
  for (const secret of secrets.filter((secret) => secret !== '')) text = text.replaceAll(secret, '…');
  text = text
    .replace(/[\p{C}\s]+/gu, ' ')
    .replace(/\b(AKIA|ASIA)[A-Z0-9]{8,}/g, '…')
    .split(' ')
    // ARNs are long too, and tell what to change.
    .filter((word) => /^\W?arn:/.test(word) || !/[A-Za-z0-9+/=_%-]{32,}/.test(word))
    .join(' ')
    .trim()
    .replace(/\.$/, '');
  if (/<[a-z!/]/i.test(text)) return '';
  return text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT)}…` : text;
}

const LONGEST_TEXT = 400; // characters
