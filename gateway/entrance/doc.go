// Package entrance lets programs without a sidecar call services of the mesh: it listens
// on a port for each service port that others hand in, and takes every connection there to
// that service, in whichever cluster it is served.
//
// The bytes are the program's own. The entrance speaks the mesh's TLS for it under this
// gateway's identity, to whoever ends it: a gateway, for endpoints without a sidecar, which
// take such calls when the service has no policy or one that names the gateway
// ([policy.Authorizer.Plain]); or a sidecar, which refuses gateways: who the program is
// nobody has proved.
//
// The caller's connection is reset when there is no path, and nothing of it is read before
// the TLS stands. A path is found and opened by [forward.Forward.Enter], so that nearest
// clusters, hedging, bounds and draining are those of every path.
//
// A call lasts as long as the certificate with which it began, or that with which
// this gateway has called the same answerer since.
package entrance
