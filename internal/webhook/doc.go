// Package webhook is the process that the API server asks about every new pod: it answers
// with the patch of [inject], and has no effect but its answer, so that a dry run is one and
// a second question gets the same answer.
//
// Its certificate it makes by itself. All replicas share one Secret, in which the first puts
// a certificate authority; each makes its own certificate with that and keeps the caBundle
// of the MutatingWebhookConfiguration such that API servers trust it (certificate.go). The
// authority is followed by another in time, and both are trusted as long as the older lasts
// (authorities.go).
//
// Who asks is not checked: the answer says nothing that the question does not. What comes is
// bounded in size, number and time; beyond that the answer is 503, and the API server does
// what failurePolicy says. With Ignore a pod then starts without a sidecar; one replica
// finds such pods, and says so in an Event (unmeshed.go).
//
// At its end a replica answers for some seconds more, until the API server asks the other
// one: with Ignore, every question that nobody answers is a pod without a sidecar.
package webhook
