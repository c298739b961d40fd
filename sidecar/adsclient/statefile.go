package adsclient

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/wholefile"
	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// stateFormat marks the state file: a marshalled DeltaDiscoveryResponse whose
// type_url is this and whose resources are all that is accepted, of every type.
// Absences are not kept: they are answered again within milliseconds, or nobody
// is there to answer and then "unknown" is the truth.
const stateFormat = "isthmus/sidecar-state/1"

// save writes the state file. It is called by the saver.
func (c *Client) save() error {
	if c.cfg.StatePath == "" {
		return nil
	}
	c.mu.Lock()
	file := c.accepted.file()
	c.mu.Unlock()
	b, err := marshal(file)
	if err != nil {
		return err
	}
	return wholefile.Write(c.cfg.StatePath, b, 0o600)
}

// file returns what is in the state file. What it refers to does not change.
func (a *accepted) file() *discoveryv3.DeltaDiscoveryResponse {
	file := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: stateFormat}
	for _, typeURL := range types {
		file.Resources = slices.AppendSeq(file.Resources, maps.Values(a.resources[typeURL]))
	}
	return file
}

func marshal(file *discoveryv3.DeltaDiscoveryResponse) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(file)
}

// unmarshal replaces what is accepted by the content of a state file. A broken
// file changes nothing.
func (a *accepted) unmarshal(b []byte) error {
	file := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(b, file); err != nil {
		return err
	}
	if file.GetTypeUrl() != stateFormat {
		return fmt.Errorf("format %q, this program writes %q", file.GetTypeUrl(), stateFormat)
	}
	fresh := newAccepted(a.services)
	for _, typeURL := range types {
		part := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		for _, r := range file.GetResources() {
			if r.GetResource().GetTypeUrl() == typeURL && (typeURL != xds.PolicyType || a.asks(r.GetName())) {
				part.Resources = append(part.Resources, r)
			}
		}
		if _, err := fresh.take(part); err != nil {
			return err
		}
	}
	if len(fresh.resources[xds.RulesType]) == 0 { // of a version or a gateway that knew of none
		for name := range fresh.resources[xds.ClusterType] {
			fresh.remove(xds.RulesType, name)
		}
	}
	*a = *fresh
	return nil
}

// readState reads the state file into a. A missing file, or no path, is an empty state.
func readState(path string, a *accepted) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxStateFile {
		return fmt.Errorf("read %s: longer than %d bytes", path, maxStateFile)
	}
	if err := a.unmarshal(b); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
