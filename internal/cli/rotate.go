package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/rotation"
	"github.com/isthmus-mesh/isthmus/internal/status"
)

// rotatePause is the pause between two looks at who lacks something.
const rotatePause = time.Second

func pkiRotate(f *pkiFlags) *cobra.Command {
	r := rotate{pkiFlags: f, ttl: lifetime(identity.DefaultRootTTL)}
	cmd := &cobra.Command{
		Use:   "rotate --admin HOST:PORT",
		Short: "Replace the root and everything below it, step by step",
		Long: `Replace the root of a mesh, and the intermediates and leaves below it, without a
break. Each call makes one step and says what is next:

  1  a new root is made, and trusted beside the old one: bundle N
  2  intermediates and leaves are made under the new root
  3  the old root is retired: no new connections under it, bundle N+1
  4  the old root's key is removed

Before 2 everybody must hold bundle N, before 3 have a certificate under the new root,
and before 4 hold bundle N+1. After 4 another rotation begins only with --again. Who does not is named, and the step is not made, unless
with --force. The bundles are given to a gateway (--admin), which hands them to all
others and they to their sidecars. Where the root's key is no gateway can be asked: carry
bundle.json to one, call 'isthmus pki push' there, look at 'isthmus status', and
make the next step with --force.

The leaves that step 2 makes are those below the directory (--dir). Those made
elsewhere (-o), and those of 'isthmus ca', are under the new root when the cluster's new
directory was brought there and they have been renewed; step 3 waits for them.
Processes with certificates of 'isthmus ca' do that by themselves within minutes.

Connections under the old root that are open after step 3 stay until their certificates
end. If the old root's key was stolen, cut them: 'isthmus pki revoke FINGERPRINT'.

With --cluster only that cluster's intermediate and its leaves are replaced, under the
same root: one step, for which nobody needs anything.`,
		Example: `  isthmus pki rotate --admin 127.0.0.1:15000
  isthmus pki rotate --admin 127.0.0.1:15000 --wait=10m
  isthmus pki rotate --cluster west`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := rotation.Open(f.dir)
			if err != nil {
				return fmt.Errorf("pki rotate: %w", err)
			}
			if r.cluster != "" {
				err = r.oneCluster(cmd.OutOrStdout(), d)
			} else {
				err = r.step(cmd.Context(), cmd.OutOrStdout(), d)
			}
			if err != nil {
				return fmt.Errorf("pki rotate: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&r.admin, "admin", "", "admin address of any gateway, such as 127.0.0.1:15000")
	cmd.Flags().DurationVar(&r.wait, "wait", 0, "wait until a step may be made, for this long at most")
	cmd.Flags().StringVar(&r.cluster, "cluster", "", "replace the intermediate of this cluster only")
	cmd.Flags().BoolVar(&r.again, "again", false, "begin another rotation after one that is complete")
	cmd.Flags().Var(&r.ttl, "ttl", "how long a new root is valid, such as 20y")
	return cmd
}

// rotate is one call of the command.
type rotate struct {
	*pkiFlags
	admin, cluster string
	wait           time.Duration
	again          bool
	ttl            lifetime
}

// step makes the step that is due, if everybody is ready for it.
func (r *rotate) step(ctx context.Context, out io.Writer, d *rotation.Directory) error {
	if d.Rotated() && !r.again {
		return fmt.Errorf("the last rotation is complete, and the root is %s: to begin another write --again", d.Root().Fingerprint())
	}
	due := d.Due()
	bundle, root := due.Needs()
	if (bundle || root) && !r.force {
		if r.admin == "" {
			return usageError{errors.New("whether everybody is ready for the next step is not known: name a gateway to ask, with --admin 127.0.0.1:15000, or write --force")}
		}
		if err := r.awaitReady(ctx, d, root); err != nil {
			return fmt.Errorf("step %d, %s, is not made: %w", due, due, err)
		}
	}
	if err := d.Do(time.Duration(r.ttl)); err != nil {
		return err
	}
	fmt.Fprintf(out, "step %d of %d: %s\n", due, rotation.Complete, due)
	for _, line := range d.Created {
		fmt.Fprintln(out, "  "+line)
	}
	if due == rotation.AddRoot || due == rotation.Retire {
		if err := give(ctx, out, r.admin, r.dir, d.Bundle()); err != nil {
			return err
		}
	}
	switch due {
	case rotation.Reissue:
		fmt.Fprintln(out, "bring the new directories of clusters to where 'isthmus ca' runs, and new leaves to where they are used")
	case rotation.Complete:
		fmt.Fprintln(out, "the rotation is complete")
		return nil
	}
	fmt.Fprintf(out, "next: isthmus pki rotate%s%s, to %s\n", r.hint(), adminHint(r.admin), d.Due())
	return nil
}

func adminHint(admin string) string {
	if admin == "" {
		return " --admin HOST:PORT"
	}
	return " --admin " + admin
}

// awaitReady returns nil once everybody holds the newest bundle and, with root, has a
// certificate under its last root; or who does not when the time is up.
func (r *rotate) awaitReady(ctx context.Context, d *rotation.Directory, root bool) error {
	for end := time.Now().Add(r.wait); ; {
		err := ready(ctx, r.admin, d.Bundle(), root)
		if err == nil || time.Now().Add(rotatePause).After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rotatePause):
		}
	}
}

// ready asks a gateway who is behind.
func ready(ctx context.Context, admin string, b *identity.Bundle, root bool) error {
	a, err := status.Ask(ctx, admin)
	if err != nil {
		return fmt.Errorf("ask %s: %w", admin, err)
	}
	if a.Gateway == nil {
		return fmt.Errorf("%s is no gateway: name one's admin address", admin)
	}
	for i := range a.Gateway.Trust {
		t := &a.Gateway.Trust[i]
		switch {
		case !t.Own:
			continue
		case t.Bundle < b.Number:
			return fmt.Errorf("gateway %s itself still has bundle %d of %d: call 'isthmus pki push --admin %s'", a.Gateway.Self, t.Bundle, b.Number, admin)
		case t.Bundle > b.Number:
			return fmt.Errorf("the mesh has bundle %d, and here is %d: use the directory in which the newest was made", t.Bundle, b.Number)
		}
		behind := t.LackBundle()
		if root {
			behind = t.Lacking
		}
		if len(behind) == 0 {
			return nil
		}
		var lines []string
		for _, l := range behind {
			lines = append(lines, "  "+printable(l.String()))
		}
		return fmt.Errorf("somebody is not ready; wait (--wait=10m), or write --force:\n%s", strings.Join(lines, "\n"))
	}
	return fmt.Errorf("%s says nothing of its trust", admin)
}

// oneCluster replaces an intermediate and its leaves under the same root.
func (r *rotate) oneCluster(out io.Writer, d *rotation.Directory) error {
	if err := mesh.CheckLabel(r.cluster); err != nil {
		return usageError{fmt.Errorf("cluster: %w", err)}
	}
	was, err := identity.ReadCertificate(filepath.Join(r.dir, r.cluster, "ca.pem"))
	if err != nil {
		return err
	}
	if err := d.RenewCluster(d.Root(), mesh.ClusterName(r.cluster)); err != nil {
		return err
	}
	for _, line := range d.Created {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintf(out, "certificates of the intermediate before are good until they end; if its key was stolen: isthmus pki revoke%s %s\n", r.hint(), identity.FingerprintOf(was))
	return nil
}
