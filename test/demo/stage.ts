import { stripVTControlCharacters } from 'node:util';
import pc from 'picocolors';

export interface StageOptions {
  /** Where it is shown. */
  readonly out: { write(text: string): unknown; columns?: number | undefined; isTTY?: boolean | undefined };
  readonly color?: boolean;
}

const WIDEST = 100; // characters: a line of more is hard to read
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const FRAME_MS = 80;

/**
 * Shows steps, and the claims that they make: a claim is printed when it was checked, with what was seen. In a terminal
 * the last line lives while something is waited for; elsewhere it is plain lines.
 */
export class Stage {
  readonly #out: StageOptions['out'];
  readonly #paint: ReturnType<typeof pc.createColors>;
  readonly #isLive: boolean;
  #steps = 0;
  #held = 0;
  readonly #broken: string[] = [];

  constructor({ out, color = out.isTTY === true && !process.env['NO_COLOR'] }: StageOptions) {
    this.#out = out;
    this.#paint = pc.createColors(color);
    this.#isLive = out.isTTY === true;
  }

  /** How many claims held, and those that did not. */
  get held(): number {
    return this.#held;
  }

  get broken(): readonly string[] {
    return this.#broken;
  }

  title(name: string, text: string): void {
    this.#line(`\n ${this.#paint.bold(name)}\n`);
    this.say(text);
  }

  step(title: string): void {
    this.#line(`\n ${this.#paint.cyan(String((this.#steps += 1)).padStart(2))}  ${this.#paint.bold(title)}`);
  }

  /** A paragraph, wrapped. */
  say(text: string): void {
    for (const line of wrapped(text, this.#width - 5)) this.#line(`     ${this.#paint.dim(line)}`);
  }

  /** The last word. */
  verdict(isGood: boolean, text: string): void {
    const paint = isGood ? this.#paint.green : this.#paint.red;
    this.#line('');
    for (const line of wrapped(text, this.#width - 1)) this.#line(` ${this.#paint.bold(paint(line))}`);
    this.#line('');
  }

  /** As it stands: what a command would print. */
  show(...lines: readonly string[]): void {
    for (const line of lines) this.#line(line === '' ? '' : `     ${line}`);
  }

  /**
   * Holds something against what is really there: `look` waits for it and returns the figure that is shown, or throws.
   * `during` is shown while it is waited for.
   */
  async claim(text: string, look: () => Promise<string> | string, during?: () => string): Promise<void> {
    const stop = this.#live(text, during);
    try {
      const figure = await look();
      stop();
      this.#held += 1;
      this.#line(this.#claimLine(this.#paint.green(this.#isLive ? '✓' : 'ok'), text, this.#paint.dim(figure)));
    } catch (error) {
      stop();
      this.#broken.push(text);
      this.#line(this.#claimLine(this.#paint.red(this.#isLive ? '✗' : 'FAIL'), text, ''));
      const why = error instanceof Error ? error.message : String(error);
      for (const line of wrapped(why, this.#width - 7)) this.#line(`       ${this.#paint.red(line)}`);
    }
  }

  /** The figure to the right where there is room, else on a line of its own. */
  #claimLine(mark: string, text: string, figure: string): string {
    const pad = this.#isLive ? '' : ' '.repeat(Math.max(0, 5 - lengthOf(mark)));
    const start = `  ${mark}${pad} ${text}`;
    const room = this.#width - lengthOf(start) - lengthOf(figure);
    if (figure === '' || room >= 2) return `${start}${' '.repeat(Math.max(0, room))}${figure}`;
    return `${start}\n${' '.repeat(Math.max(5, this.#width - lengthOf(figure)))}${figure}`;
  }

  #live(text: string, during: () => string = () => ''): () => void {
    if (!this.#isLive) return () => undefined;
    let frame = 0;
    const draw = (): void => {
      const line = this.#claimLine(this.#paint.yellow(FRAMES[frame++ % FRAMES.length] ?? ''), text, during());
      this.#out.write(`\r\x1b[2K${line.split('\n')[0]}`);
    };
    draw();
    const timer = setInterval(draw, FRAME_MS);
    return () => {
      clearInterval(timer);
      this.#out.write('\r\x1b[2K');
    };
  }

  get #width(): number {
    return Math.min(this.#out.columns ?? 80, WIDEST) - 1;
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }
}

/** Lines of `width` characters at most; a word that is longer stands alone. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function lengthOf(text: string): number {
  return stripVTControlCharacters(text).length;
}
