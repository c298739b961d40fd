// Package federation makes the gateways of all clusters one mesh: who is there
// (membership by gossip), and what each offers (a signed catalog per gateway,
// pulled over tunnels).
package federation
