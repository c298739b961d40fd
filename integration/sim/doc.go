// Package sim runs a whole mesh of gateways in one process and in virtual
// time: real gateways, real QUIC and real gossip over a simulated network
// (quic-go's simnet), inside a testing/synctest bubble. 75 seconds of partition
// take a moment, and nothing depends on how fast the machine is.
//
// A script is a text file in testdata: commands, "----", what they printed. The
// test compares; -rewrite records.
//
//	cluster NAME [rtt=80ms] [gateways=2]    a cluster; rtt is that of its link to the others
//	service CLUSTER NS/NAME port=80 ready=3 [of=4] [export]
//	                                        replaces what the cluster has of a service
//	settle 5s                               waits until everybody knows everything that can be known, so long at most
//	dial CLUSTER NS/NAME within=1s          mTLS through CLUSTER's first gateway, end to end; says so when late
//	partition A B, heal A B                 between two clusters
//	kill GATEWAY, start GATEWAY             as kill -9 does; its memory is lost
//	wait 75s
//	show CLUSTER                            what CLUSTER's first gateway knows
//
// Times are given as bounds, because gossip and backoff are random on purpose.
package sim
