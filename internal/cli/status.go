package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/isthmus-mesh/isthmus/internal/admin"
)

const (
	statusTimeout  = 5 * time.Second
	maxStatusBytes = 64 << 20 // a mesh of 100,000 services

	// updating is for how long a catalog that is behind is being fetched rather
	// than stale: changes are coalesced for up to a second.
	updating = 2 * time.Second
)

// Status is `isthmus status`.
func Status() *cobra.Command {
	var address string
	var out output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what a gateway knows of the mesh",
		Long: `Asks a gateway's admin port and shows the gateways with their tunnels, the
services with their ready instances in every cluster, and how fresh what it
knows of every other gateway's catalog is.

Exits with 1 when the gateway cannot be asked or is not ready.`,
		Example: `  isthmus status
  isthmus status --admin 127.0.0.1:15000 -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := fetchStatus(cmd.Context(), address)
			if err != nil {
				return err
			}
			if out.json() {
				err = writeJSON(cmd.OutOrStdout(), s)
			} else {
				err = writeStatus(cmd.OutOrStdout(), s)
			}
			if err != nil {
				return err
			}
			if !s.Ready {
				return fmt.Errorf("the gateway is not ready: waiting for %s", strings.Join(s.Pending, ", "))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "admin", "127.0.0.1:15000", "admin address of the gateway")
	out.flag(cmd)
	return cmd
}

// fetchStatus asks a gateway's admin port.
func fetchStatus(ctx context.Context, address string) (*admin.GatewayStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--admin %s: write host:port", address)}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: %w; is it running, and is this its admin address (--admin)?", err)
	}
	defer resp.Body.Close()
	var s admin.GatewayStatus
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatusBytes)).Decode(&s); err != nil || s.Self.IsZero() {
		return nil, fmt.Errorf("%s does not answer as a gateway does (%s)", address, resp.Status)
	}
	return &s, nil
}

func writeStatus(w io.Writer, s *admin.GatewayStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "GATEWAY\tADDRESS\tTUNNEL\tFOR\tRTT\tSTREAMS\tGOSSIP\tNOTE")
	for _, g := range s.Gateways {
		since, rtt, streams := "", "", ""
		if !g.Since.IsZero() {
			since = age(time.Since(g.Since))
		}
		if g.Tunnel == "up" {
			rtt = fmt.Sprintf("%.1f ms", g.RTT)
			streams = fmt.Sprint(g.Streams)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.Address, g.Tunnel, since, rtt, streams, g.Gossip, g.LastError)
	}
	for _, j := range s.Join {
		if j.Gateway.IsZero() {
			fmt.Fprintf(t, "?\t%s\tdown\t\t\t\t\t%s\n", j.Address, j.LastError)
		}
	}

	fmt.Fprintln(t, "\nSERVICE\tCLUSTER\tPORT\tREADY\tEXPORTED\tREACHABLE")
	for _, svc := range s.Services {
		for _, c := range svc.Clusters {
			fmt.Fprintf(t, "%s\t%s\t%d/%s\t%d of %d\t%s\t%s\n", svc.Service, c.Cluster, c.Port, c.Protocol,
				c.Ready, c.Total, yesNo(c.Exported), yesNo(c.Reachable))
		}
	}

	fmt.Fprintln(t, "\nCATALOG OF\tVERSION\tDIGEST\tSERVICES\tAGE")
	for _, o := range s.Origins {
		fresh := "current"
		switch {
		case o.Stale && o.Age < updating.Seconds():
			fresh = "updating"
		case o.Stale:
			fresh = "stale " + age(time.Duration(o.Age*float64(time.Second)))
		}
		fmt.Fprintf(t, "%s\t%d.%d\t%.12s\t%d\t%s\n", o.Origin, o.Epoch, o.Seq, o.Digest, o.Records, fresh)
	}
	if len(s.Faults) > 0 {
		fmt.Fprintln(t, "\nRESOURCE FILE\tFAULT (its last good content is in force)")
		for _, f := range s.Faults {
			fmt.Fprintf(t, "%s\t%s\n", f.File, f.Error)
		}
	}
	return t.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// age shows a duration with the precision that people care for.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return d.Round(time.Second).String()
	default:
		return d.Round(time.Minute).String()
	}
}
