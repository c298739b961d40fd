// Package relay moves bytes both ways between two connections until both
// directions have ended, and keeps three promises that io.Copy in two
// goroutines does not:
//
//   - half-close: the end of one direction is passed on as such (FIN,
//     close_notify, stream FIN) while the other goes on;
//   - an error is passed on as an error: when one side breaks, the other is
//     reset, so that nobody takes a truncated stream for a complete one;
//   - a path on which nothing moves for the idle timeout ends, also when it is
//     a write that hangs.
//
// A direction on which nothing comes for a second holds no buffer, and no goroutine when the
// connection says that it can be read or is a plain socket that can wait with others (see
// [Pair] and package epoll); else one with a small stack. Much that comes
// between two plain sockets is moved by splice(2); a redirected socket (sk_msg) is not
// one, see [Socket].
//
// It knows nothing of what the bytes mean.
package relay
