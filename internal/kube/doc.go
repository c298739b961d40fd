// Package kube is how Isthmus speaks with a Kubernetes API server: the only home of
// client-go, so that the rest sees objects (types of k8s.io/api) and never clients.
//
// A [Client] is made with [Open], from a kubeconfig or as the pod's service account.
// What is read goes by [Follow]: whole sets with the channel that closes when they are
// past, kept by a watch, never polled. [Client.Run] runs everything that was followed
// before it, and the recorder of Events.
//
//	c, err := kube.Open(kube.Config{Log: log, Metrics: registry})
//	services := kube.Follow(c, kube.Selection{}, func(s *corev1.Service) { s.Annotations = nil })
//	go c.Run(ctx)
//	all, past := services.Snapshot()
//
// Two parts of a process that need the same objects are handed one [Followed]: each
// holds all of them.
//
// What is written goes by [Apply] and [ApplyStatus] (server-side apply, which leaves
// what others wrote alone), [Create], [Replace] and [Delete]; every call has a deadline. Which
// of several gateways writes, a [Lease] decides.
//
// When the API server is away, sets stay as they were; a process that starts then has what the
// file [Config].Keep says (kept.go). [Client.State] and the metric
// isthmus_kubernetes_lost_seconds say for how long nothing has been heard.
//
// The kinds are those that newScheme names. The whole of client-go's typed clients is not
// linked: the sidecar is in the same binary, and pays nothing but file pages for what
// is here, since schemes are built in Open.
package kube
