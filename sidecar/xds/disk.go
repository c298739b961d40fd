package xds

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/xds"
)

// stateFormat marks the state file: a marshalled DeltaDiscoveryResponse whose
// type_url is this and whose resources are all that is accepted, of both types.
// Absences are not kept: they are answered again within milliseconds, or nobody
// is there to answer and then "unknown" is the truth.
const stateFormat = "isthmus/sidecar-state/1"

// marshal returns the content of the state file.
func (a *accepted) marshal() ([]byte, error) {
	file := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: stateFormat}
	for _, m := range []map[string]*discoveryv3.Resource{a.clusters, a.endpoints} {
		for _, r := range m {
			file.Resources = append(file.Resources, r)
		}
	}
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
	fresh := newAccepted()
	for _, typeURL := range []string{xds.ClusterType, xds.EndpointType} {
		part := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		for _, r := range file.GetResources() {
			if r.GetResource().GetTypeUrl() == typeURL {
				part.Resources = append(part.Resources, r)
			}
		}
		if _, err := fresh.take(part); err != nil {
			return err
		}
	}
	*a = *fresh
	return nil
}

// readState reads the state file into a. A missing file is an empty state.
func readState(path string, a *accepted) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCacheFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxCacheFile {
		return fmt.Errorf("read %s: longer than %d bytes", path, maxCacheFile)
	}
	if err := a.unmarshal(b); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
