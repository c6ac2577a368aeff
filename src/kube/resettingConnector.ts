import type { Socket } from 'node:net';
import { buildConnector } from 'undici';

/**
 * Connects as undici does; but where a request is given up, its connection is reset. Closed in order, the kernel would
 * go on delivering what was written, for many minutes where a cable is dead: a write that was sent while the lease was
 * ours would be done after another replica has taken it over. A TLS socket of Node's cannot be reset, the one below it can.
 */
export function resettingConnector(options: buildConnector.BuildOptions): buildConnector.connector {
  const connect = buildConnector(options);
  return (to, callback) => {
    const isTls = to.protocol === 'https:';
    const port = to.port || (isTls ? '443' : '80');
    connect({ ...to, protocol: 'http:', port }, (error, below) => {
      if (error !== null) return callback(error, null);
      if (!isTls) return callback(null, resetByFailure(below, below));
      connect({ ...to, port, httpSocket: below }, (failed, socket) =>
        failed === null ? callback(null, resetByFailure(socket, below)) : callback(failed, null),
      );
    });
  };
}

// TLS closes what is below it in its own time. Reset before that, Node ends by SIGSEGV (seen with 24.10 and 26.10).
function resetByFailure<T extends Socket>(socket: T, below: Socket): T {
  const close = socket.destroy.bind(socket);
  const closeBelow = below.destroy.bind(below);
  const resetBelow = (): Socket => {
    below.destroy = closeBelow; // which the reset calls
    return below.resetAndDestroy();
  };
  socket.destroy = (error) => {
    if (error === undefined) return close();
    below.destroy = resetBelow;
    if (socket === below) resetBelow();
    else close(error);
    return socket;
  };
  return socket;
}
