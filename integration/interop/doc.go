// Package interop tests the mesh against programs that speak its protocols and that nobody
// here wrote.
//
// # HBONE
//
// hbone_test.go has a small peer made of golang.org/x/net/http2: it calls a workload by
// CONNECT streams and is called by a sidecar. It runs everywhere.
//
// ztunnel_test.go has Istio's ztunnel on a host of its own, with a certificate of isthmus
// ca. It takes root, and a ztunnel in PATH or named by ISTHMUS_ZTUNNEL; without one it is skipped, in CI
// too, since Istio publishes it as an image only. To build it from its source (10 minutes; Rust,
// protoc and cmake are needed):
//
//	git clone https://github.com/istio/ztunnel && cd ztunnel
//	cargo build --release --no-default-features --features tls-ring
//	ISTHMUS_ZTUNNEL=$PWD/out/rust/release/ztunnel go test ./integration/interop -run Ztunnel
//
// It takes a ztunnel as any: the certificate's authority is ours, and the certificates of
// both sides carry Istio's names besides (identity.istioName).
package interop
