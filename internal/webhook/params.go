package webhook

import "time"

const (
	// maxReview bounds a question, in bytes: etcd keeps no pod of more than 1.5 MiB.
	maxReview = 4 << 20
	// maxElements bounds the elements of its JSON. A pod with a thousand variables has six
	// thousand; the most take 15 MiB.
	maxElements = 16 << 10
	// maxReviews bounds the questions that are answered at a time, and maxOfSource those of
	// one address: each takes an API server's processor a millisecond. Others wait for
	// reviewPatience, less than the five seconds that the API server waits.
	maxReviews     = 8
	maxOfSource    = 2
	reviewPatience = 2 * time.Second
	// maxConnections bounds connections. An API server keeps a few.
	maxConnections = 512

	headTimeout  = 5 * time.Second // TLS handshake and head
	bodyTimeout  = 10 * time.Second
	writeTimeout = 15 * time.Second // from the head's end to the answer's
	idleTimeout  = 2 * time.Minute
	maxHead      = 16 << 10

	// lingers is how long a replica answers after it was told to end: the API server
	// learns of that through the endpoints of the Service and kube-proxy.
	lingers = 5 * time.Second

	// followEvery is how often the file of roots is looked at.
	followEvery = 5 * time.Second

	// authorityLife and leafLife are how long certificates are valid. Both are replaced at
	// half of it.
	authorityLife = 365 * 24 * time.Hour
	leafLife      = 30 * 24 * time.Hour
	// overlap is how long a new authority has been in the caBundle before it signs: API
	// servers that lag have it by then.
	overlap = time.Hour
	// backdate is how long before now a certificate begins, for clocks that are behind.
	backdate = time.Hour
	// maxAuthorities bounds those in the Secret: by the times above there are three.
	maxAuthorities = 8

	// minRetry and maxRetry are the pauses between attempts to write what could not be
	// written; tidyEvery is how often it is looked whether something is due.
	minRetry  = time.Second
	maxRetry  = 30 * time.Second
	tidyEvery = 10 * time.Minute
)
