package federation

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/tunnel"
)

// exchange brings one live peer and this gateway together: the gossip keys first,
// without which they cannot gossip, then the membership, then the versions.
func (f *Federation) exchange(ctx context.Context, id mesh.GatewayID) {
	err := f.exchangeOnce(ctx, id)
	f.mu.Lock()
	defer f.mu.Unlock()
	defer kick(f.stepKick)
	p := f.peers[id]
	if p == nil {
		return
	}
	p.busy = false
	now := time.Now()
	if err != nil {
		p.retry = now.Add(backoff(1))
		if ctx.Err() == nil && p.State == tunnel.Up {
			f.log.Warn("exchange with a gateway", "peer", id.String(), "err", err)
		}
		return
	}
	p.synced = now
	if f.mustJoinLocked(id) {
		p.retry = now.Add(backoff(1)) // memberlist was told, and did not take it
	}
}

func (f *Federation) exchangeOnce(ctx context.Context, id mesh.GatewayID) error {
	f.mu.Lock()
	p := f.peers[id]
	if p == nil {
		f.mu.Unlock()
		return nil
	}
	ring, tell, list := f.ring, !p.rung.equal(f.ring), f.list
	f.mu.Unlock()
	if tell {
		theirs, err := f.exchangeKeys(ctx, id, ring)
		if err != nil {
			return fmt.Errorf("exchange gossip keys: %w", err)
		}
		f.mergeKeys(theirs)
		f.mu.Lock()
		if p := f.peers[id]; p != nil {
			p.rung = theirs
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	join := f.mustJoinLocked(id)
	f.mu.Unlock()
	if join {
		if _, err := list.Join([]string{joinAddress(id)}); err != nil {
			return fmt.Errorf("join gossip: %w", err)
		}
	}
	l, err := f.fetchVersions(ctx, id)
	if err != nil {
		return fmt.Errorf("ask for its catalogs: %w", err)
	}
	f.mu.Lock()
	f.metLocked(id, l.MeshAddress)
	move := false
	for _, h := range l.Origins {
		if h.Origin == f.cfg.Self {
			move = f.mustMoveLocked(h)
			continue
		}
		f.hearLocked(h, id)
	}
	f.mu.Unlock()
	if move {
		if err := f.moveEpoch(ctx, id); err != nil {
			return fmt.Errorf("it holds a newer catalog of ours: %w", err)
		}
	}
	return nil
}

// request asks a gateway on a stream of its own and hands the answer to read,
// which must not keep it. All of it ends within exchangeTimeout.
func (f *Federation) request(ctx context.Context, to mesh.GatewayID, method, path string, body []byte, read func(*http.Response) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	s, err := f.cfg.Tunnel.Open(ctx, to)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Abort() })
	defer stop()
	defer func() {
		if err != nil {
			_ = s.Abort()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := s.SetDeadline(deadline); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+GossipAuthority+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	req.Close = true
	if err := req.Write(s); err != nil {
		return err
	}
	// Heads and compressed bodies are no longer than the longest plain body.
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(s, catalog.MaxPullBytes)), req) //nolint:bodyclose // the stream is closed
	if err != nil {
		return err
	}
	if err := read(resp); err != nil {
		return err
	}
	return s.Close()
}

// answered returns an error that quotes an answer which is not of the given status.
func answered(r *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(r.Body, 200))
	return fmt.Errorf("answered %s: %q", r.Status, b)
}

func gzipped(r *http.Response) bool { return r.Header.Get("Content-Encoding") == "gzip" }

// exchangeKeys gives a gateway our keys and returns its.
func (f *Federation) exchangeKeys(ctx context.Context, to mesh.GatewayID, ours keyring) (theirs keyring, err error) {
	err = f.request(ctx, to, http.MethodPost, pathKeys, ours.encode(), func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return answered(r)
		}
		b, err := io.ReadAll(io.LimitReader(r.Body, maxKeysBytes+1))
		if err != nil {
			return err
		}
		theirs, err = decodeKeyring(b)
		return err
	})
	return theirs, err
}

// fetchVersions asks a gateway what it holds and where its sidecars find it.
func (f *Federation) fetchVersions(ctx context.Context, from mesh.GatewayID) (l *versionList, err error) {
	err = f.request(ctx, from, http.MethodGet, pathCatalog, nil, func(r *http.Response) error {
		if r.StatusCode != http.StatusOK {
			return answered(r)
		}
		var err error
		l, err = decodeVersionList(r.Body, gzipped(r))
		return err
	})
	return l, err
}

// fetchDelta asks a gateway for an origin's catalog since a version; nil: it has
// nothing newer.
func (f *Federation) fetchDelta(ctx context.Context, from, origin mesh.GatewayID, have catalog.Version) (d *signedDelta, err error) {
	q := url.Values{"origin": {origin.String()}, "epoch": {strconv.FormatUint(have.Epoch, 10)}, "since": {strconv.FormatUint(have.Seq, 10)}}
	err = f.request(ctx, from, http.MethodGet, pathCatalog+"?"+q.Encode(), nil, func(r *http.Response) error {
		switch r.StatusCode {
		case http.StatusOK:
			var err error
			d, err = decodeSignedDelta(r.Body, gzipped(r))
			return err
		case http.StatusNoContent:
			return nil
		}
		return answered(r)
	})
	return d, err
}
