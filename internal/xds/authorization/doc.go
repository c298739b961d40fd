// Package authorization is the resource by which a gateway tells a sidecar who may
// call the service beside it. Its code is generated from authorization.proto by
// scripts/generate; internal/xds translates.
package authorization
