// Package catalog is the replicated state of the federation, pure: it holds no
// clock, socket or goroutine, and its values never change once made.
//
// Each gateway, the origin, writes one [State]: a record per service that its
// cluster exports, named like the service. A name with a colon is of a kind that a later
// version writes: such a record is kept and handed on, and means nothing. Every change gives a new [Version]. Other gateways hold
// copies, which they may have from the origin or from each other, so a copy must
// be provable without trusting who handed it over:
//
//	record sum = SHA-256(len(name) name seq raw)      raw: the record's JSON as the origin wrote it
//	digest     = SHA-256("isthmus catalog 1\n" sum…)  sums in the order of names, as bytes
//	head       = origin, epoch, seq, digest           signed by the origin
//
// The digest covers the records' bytes rather than their meaning, so that a
// field that this version does not know survives being handed on.
//
// # Deltas
//
// A record carries the sequence number at which it last changed, so a holder of
// sequence s needs the records with a greater one and the names removed since.
// Who applies a [Delta] computes the digest of the outcome and compares it with
// the signed one: a wrong delta, wherever it came from, is found and answered by
// asking for the whole. Names removed are remembered for [MaxTombstones] removals;
// who is further behind gets the whole.
//
// # Conflict resolution
//
// States of one origin are totally ordered by (epoch, seq, digest) and the
// greater one wins; a set of catalogs merges origin by origin. A maximum is commutative,
// associative and idempotent, so replicas that have seen the same states agree, in
// whatever order and however often they saw them. Two states with one version and
// two digests can only be the work of two processes with one name and one key, or
// of a lost state file: the greater digest wins everywhere, and [Conflict] tells.
//
// # Not promised
//
// Two origins of one cluster may differ for as long as their discovery does;
// readers join them. There is no order between changes of different origins.
package catalog
