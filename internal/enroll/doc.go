// Package enroll is how a process comes by its identity before it does anything else:
// from files, which are there or not; from its cluster's CA, or from the SPIFFE Workload
// API, which may have to be waited for. A process that waits has its admin port, so that
// /readyz and /status say what for.
package enroll
