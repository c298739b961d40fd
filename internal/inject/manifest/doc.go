// Package manifest gives the pods of YAML files their sidecars, as the webhook would when
// they are created: of Pods, and of the templates in Deployments, StatefulSets, DaemonSets,
// ReplicaSets, ReplicationControllers, Jobs, CronJobs and PodTemplates, also in Lists.
//
// A document without a pod leaves as the bytes that it came as. One with a pod keeps its
// comments, its order and what nobody here knows; only its indentation is made anew.
package manifest
