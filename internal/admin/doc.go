// Package admin is the loopback HTTP port that every Isthmus process has for
// the people and programs that operate it:
//
//	/livez          200 while the process runs
//	/readyz         200 while every condition of readiness holds; 503 lists the others
//	/metrics        Prometheus text format
//	/status         what the process knows, as JSON; `isthmus status` reads it
//	POST /reload    reads the configuration again and answers with the verdict; `isthmus reload` asks it
//
// The port has no authentication and must stay on loopback. It answers to names of
// this host only, so that no page in a browser here can ask it. What other hosts need
// is on a port of its own when the configuration says so (/metrics, /livez, /readyz),
// and so are profiles (/debug/pprof/, of net/http/pprof).
package admin
