// Package admin is the loopback HTTP port that every Isthmus process has for
// the people and programs that operate it:
//
//	/livez          200 while the process runs
//	/readyz         200 while every condition of readiness holds; 503 lists the others
//	/metrics        Prometheus text format
//	/status         what the process knows, as JSON; `isthmus status` reads it
//	POST /reload    reads the configuration again and answers with the verdict; `isthmus reload` asks it
//	/debug/pprof/   net/http/pprof
//
// The port has no authentication and must stay on loopback.
package admin
