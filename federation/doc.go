// Package federation makes the gateways of all clusters one mesh. It knows who
// is there and what each offers, and nothing of how traffic gets there.
//
//	             packets in tunnels        streams in tunnels
//	             ──────────────────        ──────────────────
//	membership   memberlist packet         CONNECT gossip
//	gone for good                          POST /forget?gateway=west/west-1&gateway=…  of the own cluster, or about the sender's
//	catalog      its version, in NodeMeta  GET /catalog
//	             0xa1 NodeMeta: one's own
//
// # Membership
//
// All gateways of all clusters are one memberlist pool, each named
// "cluster.gateway". Its packets are packets of tunnels (QUIC datagrams), its streams
// memberlist's own protocol behind the head "CONNECT gossip HTTP/1.1". So whatever
// comes is from a gateway that has proved who it is, and there is no secret beside the
// certificates. memberlist's addresses are numbers made from the names; a packet to a
// gateway without a tunnel is dropped, and so is one that finds a queue full: gossip
// repeats itself. Package gossip says what memberlist is given to read.
//
// NodeMeta, at most 512 bytes, big endian:
//
//	 0       1       2           10          18              50
//	┌───────┬───────┬───────────┬───────────┬───────────────┬─────┬───────────┬───────┐
//	│ 1     │ 0     │ epoch     │ seq       │ digest        │ len │ advertise │ later │
//	└───────┴───────┴───────────┴───────────┴───────────────┴─────┴───────────┴───────┘
//	 version  ignored             of the own catalog          at most 200 bytes ignored
//
// memberlist does not look for the dead once it has stopped gossiping to them.
// Tunnels do: every configured and every remembered address is dialled for as long
// as the process lives, and whenever a tunnel is there to a gateway that is no
// live member, memberlist is told to join it.
//
// A gateway is known when a tunnel has led to it: then it has proved its name, and its
// address and what it holds is what it says itself, over the tunnel. Of others, and of
// where a known gateway has moved to, gossip is hearsay: there are at most 256 such
// members, 8 of a cluster, of which 32 addresses are dialled at a time, 4 of a cluster,
// in turn. Nothing of it is kept on disk, and of what they offer nobody is asked.
//
// # Catalog
//
// What a gateway offers is a [catalog.State], written by it alone and signed. A
// change is one UpdateNode, and a packet to everybody that a tunnel leads to, which
// others cannot forge or hide (announcement.go); who sees a version that is newer than what it holds
// pulls the difference, from the origin, from another gateway of its cluster, or
// from whoever has it:
//
//	GET /catalog                                        {"origins":2,"advertise":…,"mesh_address":…} head head: what the gateway
//	                                                    holds, and what others and the sidecars of its cluster dial
//	GET /catalog?origin=west/west-1&epoch=7&since=41    200 {"head":…,"signature":…,"removed":1,"records":2} removal record record
//	                                                    204: nothing newer; 404: nothing held
//
// Bodies are gzip, one JSON value a line. Nothing behind the head of a delta is read before
// its signature is good, and no more than the head says and a catalog may have. An
// answer is encoded once for all who ask for the same; so many are written at once, and
// few to gateways of one cluster, each for ten seconds. An epoch of more than a day ahead
// is refused. The list is asked for on every new tunnel and every ten seconds (of more
// than a hundred peers ten a second), so that gossip is an acceleration and not a
// necessity. A delta is taken when its head names the origin asked for, is signed by exactly
// that gateway, is not older than what was ever seen of it, and gives the digest
// that it names. Otherwise it is counted, logged and dropped.
//
// Of a delta that is taken only that counts which the origin's cluster may offer
// ([core.Judge]): services of the namespaces that its certificate names, if it names any,
// with answers by workloads of the service's namespace in that cluster or by gateways of it. The
// rest is kept for the digest and handed on, logged and shown. Then a gateway takes
// what its own file imports.
//
// What a gateway gossips about others is not proved. So gossip makes a gateway look and
// connect, and never route: routes need a signed record and a live tunnel to its origin,
// and sidecars are told of a gateway what that has said itself over a tunnel.
//
// # Trust
//
// Gateways hand each other the bundles ([identity.Bundle]) that they hold:
//
//	POST /trust     {"report":{"held":{"mesh.example":{"number":3,"digest":…}},"root":…,"behind":[…]},"bundles":[…]}
//
// and the answer is the same from the other side. A bundle is in it when the other takes that trust
// domain and, as far as is known, has an older one. That happens at once with everybody when a newer one is
// in force, with a gateway that is new, and every ten seconds. Who gets one hands it on, so that
// it spreads as fast as it can be sent; nobody is believed, a root has signed it. The
// report says which sidecars are behind their gateway. When what is trusted changes, the catalogs are
// dropped whose signers are trusted no more; the same versions may come again.
//
// # Conflict resolution
//
// See package catalog: of one origin the greatest (epoch, seq, digest) wins. The
// epoch is persisted and also grows with the clock; a gateway that meets a newer
// catalog of its own, because its file was lost and its clock set back, moves to
// an epoch beyond it. Sequence number 0 means "has not said anything yet", and
// replaces nothing: unknown is not empty.
//
// # Two clusters with one name
//
// Every gateway's certificate tells its cluster's founding ([identity.Founding]). Of
// two foundings under one name the later is refused by whoever knows both: nothing
// that its gateways export counts, its own gateways are not ready, and both sides say
// so. The earlier is remembered with its gateways' addresses, so for 72 hours out of
// reach or until they have left or are forgotten.
//
// # Dead, left, unknown
//
// A gateway without a live tunnel is out of routing at once, whatever gossip says,
// and one with a live tunnel is in it. A tunnel that carries no paths sees late that its
// peer is dead; gossip sees it within some two seconds, and then the tunnel is asked.
// A gateway that leaves first withdraws its
// catalog and waits until the others have that, then says so by its tunnels, and is
// forgotten when they close, whatever others say; the version it had reached is
// kept, so that nobody can bring its records back. One that dies is kept with its
// address and its records, marked stale with their age, for 72 hours, or until somebody says that
// it is gone for good, which every gateway is told.
//
// The state file (bbolt) holds the own epoch, every origin's signed catalog and newest
// version, and every known gateway's last address: a gateway that restarts alone knows what it knew. Without it a gateway works, and knows
// nothing after a restart until it has met another.
//
// # Not promised
//
// The catalogs of two gateways differ for some hundred milliseconds after every
// change, and for as long as they are apart. Changes of different origins have no
// order. Two processes with one name and one certificate are told from each other
// by package tunnel, not here; if both get through, each moves beyond the other's
// epoch every five seconds and says so. A gateway whose clock is behind the start
// of another's certificate refuses its catalog until the clock is right. A gateway that
// lies about others costs the mesh speed: gossip may call them dead or hide their
// versions. Their own packets tell who has a tunnel to them; others hear of it by the
// question every ten seconds.
//
// # Inside
//
// Package core decides; this package tells it what happens ([Federation] apply) and
// does what it says (loop.go, step). memberlist is in members.go, transport.go and
// gossipstream.go, requests to other gateways in client.go and the answers to theirs in
// handler.go, the state file in store.go.
package federation
