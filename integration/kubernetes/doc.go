// Package kubernetes tests the mesh in real Kubernetes clusters of this machine: three
// with a node and pods each, which all tests share (theWorld), made by bed. The
// program in the pods is probe; the servers of the clusters come from the module in
// servers.
//
// scripts/test runs it; by hand:
//
//	integration/kubernetes/bed/build
//	go test ./integration/kubernetes -run TestAPodIsReached -v
//
// It takes root; without it, or without the built clusters, the tests are skipped, in continuous
// integration they fail. KEEP=1 leaves the clusters running after the tests, for who wants to
// look; LONG=1 lets what takes minutes take them. When a test has failed, what each cluster's pods and servers said is in the directory
// that the last line names.
package kubernetes
