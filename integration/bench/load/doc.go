// Package load is the client and the program of the benchmark: a load generator for
// HTTP/1.1, HTTP/2 and gRPC, and an origin that speaks HTTP/2.
//
// Both are as cheap as they can be, so that what is between them is the limit: the client is one thread
// around epoll(7), the heads of HTTP/2 are encoded once, and answers are checked
// whole but not kept. They speak only as much of their protocols as well-behaved peers need, and take
// everything else for an error.
package load
