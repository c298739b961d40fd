// Package health checks whether one address answers: by TCP connect, by an
// HTTP request or by grpc.health.v1, again and again, with thresholds so that one lost packet does
// not count as a death. It is used by the gateway for endpoints from resource
// files and by the sidecar for the program beside it, and knows neither.
package health
