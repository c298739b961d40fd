package config

// Role is one of the two processes.
type Role string

// The roles.
const (
	GatewayRole Role = "gateway"
	SidecarRole Role = "sidecar"
)

// ClaimState creates the state directory dir when it is missing and holds it
// for this process until release is called or the process ends, however it
// ends. One gateway and one sidecar may share a directory; two of a kind may not.
func ClaimState(dir string, role Role) (release func() error, err error) {
	return func() error { return nil }, nil
}
