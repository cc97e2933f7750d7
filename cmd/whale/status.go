//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"whale/internal/certs"
	"whale/internal/config"
	"whale/internal/resp"
)

const statusTerms = `
prepared     the last record that the member has in its log, durably
stable       every record up to it is committed: it is held by as many members as the policy wants, every member knows of
             it, and every node answers it
everywhere   every member holds every record up to it durably, and none has to forward it any more
behind       how many records, bytes of the log and milliseconds (the age of the oldest record that is not covered) a
             position is behind the last record that the primary has prepared
`

func statusCmd() *cobra.Command {
	var addr string
	var s config.Settings
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the members of a running cluster, and how far each is",
		Long: `Asks one node of a cluster, and by it all the others, by their Redis addresses. Address, password and TLS are those of a
node's settings: from the file that --config names, the environment (WHALE_REQUIREPASS), or flags. Exit code 1 means that
not every member serves.`,
		Example: `  whale status --addr 127.0.0.1:7001
  whale status --config node.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.Load(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			c := clusterStatus{limit: 3 * time.Second, password: s.Password}
			if files := (certs.Files{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}); files.On() {
				var err error
				if c.tls, err = files.Load(); err != nil {
					return err
				}
			}
			if addr == "" {
				addr = s.RedisAddress()
			}
			if err := c.ask(cmd.Context(), addr); err != nil {
				return err
			}
			return c.write(cmd.OutOrStdout())
		},
	}
	s.Bind(cmd.Flags())
	cmd.Flags().VisitAll(func(f *pflag.Flag) { // those that say nothing of how a node is reached are accepted, for the file's sake
		f.Hidden = !slices.Contains([]string{config.FileFlag, "listen", "port", "requirepass", "tls-cert", "tls-key", "tls-ca"}, f.Name)
	})
	cmd.Flags().StringVar(&addr, "addr", "", "Redis address of any node (default: that of the settings)")
	return cmd
}

// clusterStatus is what the members say of themselves.
type clusterStatus struct {
	limit    time.Duration
	password string
	tls      *tls.Config    // nil: none
	members  []memberStatus // by number
}

type memberStatus struct {
	addr string            // empty: nobody has said
	name string            // its data folder, or its address for peers
	info map[string]string // fields of INFO; nil: it has not answered
	err  error             // why
}

// ask asks the node at addr, then the others that it knows.
func (c *clusterStatus) ask(ctx context.Context, addr string) error {
	first, err := c.info(ctx, addr)
	if err != nil {
		return fmt.Errorf("node %s: %w", addr, err)
	}
	n, err := strconv.Atoi(first["whale_members"])
	self, err2 := strconv.Atoi(first["whale_member"])
	if err = errors.Join(err, err2); err != nil || n < 1 || n > 1024 || self < 0 || self >= n {
		return fmt.Errorf("node %s: it does not answer like a node of Whale (INFO whale has no whale_member)", addr)
	}
	c.members = make([]memberStatus, n)
	for i := range c.members {
		m := &c.members[i]
		facts := facts(first["whale_member"+strconv.Itoa(i)])
		m.addr, m.name = facts["address"], facts["name"]
		switch {
		case i == self:
			m.addr, m.info = addr, first
		case m.addr == "":
			m.err = errors.New("its address is not known")
		default:
			m.info, m.err = c.info(ctx, m.addr)
		}
	}
	return nil
}

// facts splits "a=1,b=2".
func facts(text string) map[string]string {
	m := map[string]string{}
	for field := range strings.SplitSeq(text, ",") {
		if name, value, ok := strings.Cut(field, "="); ok {
			m[name] = value
		}
	}
	return m
}

// info asks one node for its section whale.
func (c *clusterStatus) info(ctx context.Context, addr string) (map[string]string, error) {
	d := net.Dialer{Timeout: c.limit}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if c.tls != nil {
		config := c.tls.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
		conn = tls.Client(conn, config)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(c.limit))
	var request []byte
	if c.password != "" {
		request = resp.AppendCommand(request, "AUTH", "default", c.password)
	}
	if _, err := conn.Write(resp.AppendCommand(request, "INFO", "whale")); err != nil {
		return nil, err
	}
	replies := resp.NewReplyReader(conn)
	if c.password != "" {
		if _, err := answer(replies); err != nil {
			return nil, err
		}
	}
	text, err := answer(replies)
	if err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
		return nil, fmt.Errorf("%w Give the password in WHALE_REQUIREPASS, or the node's file with --config", err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields, err
}

func answer(replies *resp.ReplyReader) (string, error) {
	raw, err := replies.NextRaw()
	if err != nil {
		return "", err
	}
	r, _, err := resp.ParseReply(raw)
	if err == nil {
		err = r.Err()
	}
	return string(r.Str), err
}

// write prints a table of members and one of the positions. The error says which members do not serve.
func (c *clusterStatus) write(out io.Writer) error {
	var bad []string
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "MEMBER\tREDIS\tROLE\tSTATE\tEPOCH\tPREPARED\tSTABLE\tNAME")
	for i, m := range c.members {
		state := m.state()
		if state != "serving" {
			bad = append(bad, fmt.Sprintf("member %d: %s", i, state))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i, orDash(m.addr), orDash(m.info["whale_role"]), state,
			orDash(m.info["whale_epoch"]), orDash(m.info["whale_prepared"]), orDash(m.info["whale_stable"]), orDash(m.name))
	}
	w.Flush()
	if p := slices.IndexFunc(c.members, func(m memberStatus) bool { return m.info["whale_role"] == "primary" }); p >= 0 {
		c.positions(out, p)
	} else {
		fmt.Fprintln(out, "\nThe primary has not answered; only it knows how far the positions are behind.")
	}
	if _, err := io.WriteString(out, statusTerms); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("not everybody serves: %s", strings.Join(bad, "; "))
	}
	return nil
}

// positions are those that the primary knows.
func (c *clusterStatus) positions(out io.Writer, p int) {
	info := c.members[p].info
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "POSITION\tRECORD\tRECORDS BEHIND\tBYTES BEHIND\tMS BEHIND")
	row := func(name, record, lag string) {
		l := append(strings.Split(lag, "/"), "", "")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, orDash(record), orDash(l[0]), orDash(l[1]), orDash(l[2]))
	}
	row(fmt.Sprintf("prepared at member %d", p), info["whale_prepared"], "0/0/0.0")
	for i := range c.members {
		if i != p {
			f := facts(info["whale_member"+strconv.Itoa(i)])
			row(fmt.Sprintf("prepared at member %d", i), f["durable"], f["durable_lag"])
		}
	}
	row("stable", info["whale_stable"], info["whale_stable_lag"])
	row("everywhere", info["whale_everywhere"], info["whale_everywhere_lag"])
	w.Flush()
}

func (m *memberStatus) state() string {
	switch {
	case m.err != nil:
		return "no answer: " + m.err.Error()
	case m.info["whale_failed"] != "":
		return "not served: " + m.info["whale_failed"]
	case m.info["whale_serving"] == "1":
		return "serving"
	}
	return "waits for " + m.info["whale_waiting_for"]
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
