package federation

import (
	"context"
	"math/rand/v2"

	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// announcementType is the first byte of a packet in which a gateway tells what it
// publishes: NodeMeta follows. No message of memberlist's begins with it.
//
// memberlist believes the greatest number that anybody gossips for a gateway, and keeps
// what comes under smaller ones from us. A packet of the gateway's own tunnel nobody can
// forge or hide. That it is lost is made good by gossip, and by the question every ten seconds.
const announcementType = 0xa1

// tellLoop tells every gateway that a tunnel leads to of each new version, a few at a
// time: all of them ask for it then.
func (f *Federation) tellLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.untold.C():
		}
		packet, peers := []byte{announcementType}, []mesh.GatewayID(nil)
		f.core.with(func(c *core.Core) {
			packet, peers = append(packet, encodeMeta(c.Meta())...), c.Connected()
		})
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
		for i, id := range peers {
			if i > 0 && i%tellAtOnce == 0 && !state.Pause(ctx, tellPause) {
				return
			}
			f.transport.send(id, packet)
		}
	}
}

// hearAnnouncement tells the core what a gateway says of itself.
func (f *Federation) hearAnnouncement(from mesh.GatewayID, b []byte) error {
	meta, err := decodeMeta(b)
	if err == nil {
		f.core.apply(core.Announced{Gateway: from, Meta: meta})
	}
	return err
}
