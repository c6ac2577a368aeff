import { createHash } from 'node:crypto';

/** An image of one layer: a static binary as its entrypoint. */
export interface StaticImage {
  layer: Buffer; // an uncompressed tar
  config: Buffer;
  manifest: Buffer; // Docker's schema 2
  manifestType: string;
}

/** `label` makes the digests of two images differ. */
export function staticImage(binary: Buffer, label: string): StaticImage {
  const layer = tar([{ path: 'entrypoint', content: binary, mode: 0o755 }]);
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: { Entrypoint: ['/entrypoint'], Labels: { image: label } },
      rootfs: { type: 'layers', diff_ids: [digest(layer)] },
    }),
  );
  const docker = 'application/vnd.docker';
  const manifestType = `${docker}.distribution.manifest.v2+json`;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: descriptor(`${docker}.container.image.v1+json`, config),
      layers: [descriptor(`${docker}.image.rootfs.diff.tar`, layer)],
    }),
  );
  return { layer, config, manifest, manifestType };
}

/** The form that `docker save` writes, for `ctr images import`. */
export function dockerArchive(image: StaticImage, name: string): Buffer {
  const config = `${hex(image.config)}.json`;
  const layer = `${hex(image.layer)}/layer.tar`;
  const index = Buffer.from(JSON.stringify([{ Config: config, RepoTags: [name], Layers: [layer] }]));
  return tar([
    { path: config, content: image.config, mode: 0o644 },
    { path: layer, content: image.layer, mode: 0o644 },
    { path: 'manifest.json', content: index, mode: 0o644 },
  ]);
}

export function digest(content: Buffer): string {
  return `sha256:${hex(content)}`;
}

function hex(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

function descriptor(mediaType: string, content: Buffer): { mediaType: string; size: number; digest: string } {
  return { mediaType, size: content.length, digest: digest(content) };
}

function tar(files: readonly { path: string; content: Buffer; mode: number }[]): Buffer {
  const block = 512;
  const parts = files.flatMap(({ path, content, mode }) => [
    tarHeader(path, content.length, mode),
    content,
    Buffer.alloc((block - (content.length % block)) % block),
  ]);
  return Buffer.concat([...parts, Buffer.alloc(2 * block)]);
}

/** POSIX ustar; owner and time are zero, so equal input gives equal bytes. */
function tarHeader(path: string, size: number, mode: number): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, '0')}\0`;
  header.write(path, 0);
  header.write(octal(mode, 8) + octal(0, 8) + octal(0, 8) + octal(size, 12) + octal(0, 12), 100);
  header.write('        0', 148); // the checksum counts as blanks; type 0: a file
  header.write('ustar\x0000', 257);
  const sum = header.reduce((sum, byte) => sum + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}
