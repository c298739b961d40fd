package identity

import (
	"crypto/x509"
	"strings"
)

// Pod is the pod of Kubernetes that a certificate was issued to. It is no part of who its
// holder is: only the CA looks at it, which renews no certificate of a pod that is gone. Its
// namespace is the identity's, or that of the gateways. The zero Pod is none.
type Pod struct{ Name, UID string }

// podPrefix begins the serial number in the subject of a pod's certificate: "pod NAME UID".
const podPrefix = "pod "

// PodOf returns the pod that a leaf was issued to; zero: to none.
func PodOf(leaf *x509.Certificate) Pod {
	rest, _ := strings.CutPrefix(leaf.Subject.SerialNumber, podPrefix)
	name, uid, _ := strings.Cut(rest, " ")
	return Pod{name, uid}
}

// IsZero reports whether there is none.
func (p Pod) IsZero() bool { return p == Pod{} }

func (p Pod) subject() string { return podPrefix + p.Name + " " + p.UID }
