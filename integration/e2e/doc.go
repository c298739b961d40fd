// Package e2e runs the built binary as its users do: config files, real
// processes, real sockets on loopback, and programs that nobody here wrote
// (curl, openssl, net/http, a WebSocket client) on both ends. It needs no
// privilege, except for interception.
package e2e
