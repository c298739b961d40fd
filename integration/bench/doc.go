// Command bench measures the data plane beside nginx and Envoy: the same load,
// the same certificates, the same machine, in one run whose rounds alternate
// between the contenders, so that what disturbs one disturbs all.
//
//	scripts/bench                    installs the peers and runs everything
//	go run ./integration/bench -h    its flags
//
// A figure from one machine means little anywhere else; ratios of one run do.
// README.md beside this file says what each flow measures and how to read it.
//
// The parts: a flow (flows.go, captured.go) has contenders, each a chain of
// processes that isthmus.go or peers.go configures; run.go drives rounds of load
// (load.go, lone.go) against them and reads what they cost (accounting.go);
// report.go makes the table. What captures connections runs in a world (world.go),
// a network namespace of its own (netns.go, rules.go). Every process dies with the benchmark, however that ends
// (process.go).
package main
