// Package dev runs a cluster of real processes on one machine: it starts them, waits until they serve, says when one
// dies and how, starts it again, and stops them all in order.
//
// Each node is a process group of its own, so that Ctrl-C in a terminal reaches the parent alone. Between parent and
// node there are two pipes: one that the node only watches, because its end tells that the parent is gone, however it
// died; and one on which the node reports its state, a line of JSON for each change.
package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"whale/internal/certs"
	"whale/internal/node"
)

// Config describes a cluster.
type Config struct {
	Program []string // what runs a node: program and first arguments; flags are added
	Nodes   int
	Port    int         // node i serves Redis clients on Port+i
	Dir     string      // a folder for each node is made in it
	Fabric  string      // what connects the nodes, as node.Config has it; over TCP, node i listens for the others on Port+FabricOffset+i
	TLS     certs.Files // for clients and, over TCP, for the other nodes; empty: none. All nodes have the same
	Flags   []string
	Out     io.Writer // for people

	ReadyLimit time.Duration // how long Start waits for all nodes to serve; 0: 1 min
	StopLimit  time.Duration // how long a node may take to stop before it is killed; 0: 5 s
}

const (
	// MaxNodes bounds a cluster on one machine.
	MaxNodes = 7
	// FabricOffset is how far the ports for other nodes are above those for clients.
	FabricOffset = 100
)

const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 5 * time.Second
	settled      = 10 * time.Second // a node that served for so long is restarted at once again
	quietStart   = 2 * time.Second  // a start that takes no longer is not commented on
	freeLimit    = 10 * time.Second // for nodes of an earlier parent, which died, to notice that
)

// Cluster is a set of running nodes.
type Cluster struct {
	cfg    Config
	folder *node.Folder
	nodes  []*member
	events chan event
	out    sync.Mutex // nodes' log lines come from goroutines of their own
}

func (cfg *Config) check() error {
	switch {
	case cfg.Nodes < 1 || cfg.Nodes > MaxNodes:
		return fmt.Errorf("--nodes %d: expected 1 to %d", cfg.Nodes, MaxNodes)
	case cfg.Port < 1 || cfg.Port+cfg.Nodes-1 > 65535:
		return fmt.Errorf("--port %d: %d nodes need the ports %d to %d; expected numbers from 1 to 65535", cfg.Port, cfg.Nodes, cfg.Port, cfg.Port+cfg.Nodes-1)
	}
	if cfg.Fabric == "" {
		cfg.Fabric = node.FabricSHM
	}
	if last := cfg.Port + FabricOffset + cfg.Nodes - 1; cfg.Fabric != node.FabricSHM && last > 65535 {
		return fmt.Errorf("--port %d: over a network the nodes need the ports %d to %d for each other, too", cfg.Port, cfg.Port+FabricOffset, last)
	}
	if cfg.ReadyLimit == 0 {
		cfg.ReadyLimit = time.Minute
	}
	if cfg.StopLimit == 0 {
		cfg.StopLimit = 5 * time.Second
	}
	return nil
}

// Start starts all nodes and waits until they serve. After an error nothing runs.
func Start(ctx context.Context, cfg Config) (_ *Cluster, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, events: make(chan event, 64)}
	if c.folder, err = node.OpenFolder(cfg.Dir, "whale dev"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stopAll()
			c.folder.Close()
		}
	}()
	secret := filepath.Join(cfg.Dir, "cluster.secret")
	if err := node.CreateSecret(secret); err != nil {
		return nil, err
	}
	var folders []string
	for i := range cfg.Nodes {
		folders = append(folders, filepath.Join(cfg.Dir, "node"+strconv.Itoa(i)))
	}
	if err := c.awaitFree(ctx, folders); err != nil {
		return nil, err
	}
	peers := folders
	for i := range cfg.Nodes {
		if err := checkPort(c.address(i)); err != nil {
			return nil, err
		}
		if cfg.Fabric != node.FabricSHM {
			if i == 0 {
				peers = nil
			}
			peers = append(peers, c.address(FabricOffset+i))
			if err := checkPort(peers[i]); err != nil {
				return nil, fmt.Errorf("for the other nodes: %w", err)
			}
		}
	}
	for i := range cfg.Nodes {
		args := append(append([]string{}, cfg.Program...), "--id", strconv.Itoa(i), "--fabric", cfg.Fabric,
			"--peers", strings.Join(peers, ","), "--dir", folders[i], "--listen", c.address(i), "--secret", secret, "--admin", "127.0.0.1:0")
		m := &member{id: i, args: append(append(args, flags(cfg.TLS)...), cfg.Flags...), folder: folders[i], stopLimit: cfg.StopLimit, events: c.events}
		c.nodes = append(c.nodes, m)
		if err := m.start(); err != nil {
			return nil, err
		}
	}
	return c, c.awaitReady(ctx)
}

// flags are those of a node with TLS.
func flags(t certs.Files) []string {
	if !t.On() {
		return nil
	}
	return []string{"--tls-cert", t.Cert, "--tls-key", t.Key, "--tls-ca", t.CA}
}

func (c *Cluster) address(i int) string { return "127.0.0.1:" + strconv.Itoa(c.cfg.Port+i) }

func (c *Cluster) say(format string, args ...any) {
	c.out.Lock()
	defer c.out.Unlock()
	fmt.Fprintf(c.cfg.Out, format+"\n", args...)
}

// awaitFree waits for nodes of an earlier parent: they end by themselves, but take a moment.
func (c *Cluster) awaitFree(ctx context.Context, folders []string) error {
	limit := time.After(freeLimit)
	said := false
	for i, dir := range folders {
		for {
			f, err := node.OpenFolder(dir, "whale node")
			if err == nil {
				f.Close()
				break
			}
			var inUse *node.InUseError
			if !errors.As(err, &inUse) {
				return err
			}
			if !said {
				said = true
				c.say("waiting for node %d of an earlier run to end (%s)", i, inUse.Who)
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-limit:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// checkPort says who has a port that is taken. The node's own attempt is the one that counts; this one gives the better
// message.
func checkPort(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l.Close()
	}
	return fmt.Errorf("%w%s: stop what listens there, or choose other ports with --port", err, whoListens(addr))
}

// awaitReady waits until every node serves. A node that ends meanwhile ends the wait.
func (c *Cluster) awaitReady(ctx context.Context) error {
	limit := time.NewTimer(c.cfg.ReadyLimit)
	defer limit.Stop()
	progress := time.NewTicker(quietStart)
	defer progress.Stop()
	said := ""
	for {
		waiting := c.unready()
		if waiting == "" {
			return nil
		}
		select {
		case e := <-c.events:
			m := c.nodes[e.node]
			m.apply(e)
			if e.exit != nil {
				return fmt.Errorf("node %d %s while the cluster was starting%s", e.node, e.exit.how, m.lastLines())
			}
			if m.state.Failed != "" {
				return fmt.Errorf("node %d does not serve: %s", e.node, m.state.Failed)
			}
		case <-progress.C:
			if waiting != said {
				said = waiting
				c.say("%s", waiting)
			}
		case <-limit.C:
			text := fmt.Sprintf("not ready after %v: %s", c.cfg.ReadyLimit, waiting)
			for _, m := range c.nodes {
				if !m.state.Serving {
					text += m.lastLines()
				}
			}
			return errors.New(text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unready says what the cluster waits for; empty: all nodes serve.
func (c *Cluster) unready() string {
	for _, m := range c.nodes {
		switch {
		case m.state.Serving:
		case m.state.Waiting != "":
			return fmt.Sprintf("node %d waits for %s", m.id, m.state.Waiting)
		default:
			return fmt.Sprintf("waiting for node %d to open its memory", m.id)
		}
	}
	return ""
}

// Table prints who is where, and what to try.
func (c *Cluster) Table() {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tREDIS\tROLE\tPID\tOPERATORS\tFOLDER")
	for i, m := range c.nodes {
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\thttp://%s/metrics\t%s\n", i, c.address(i), m.state.Role, m.pid(), m.state.Admin, m.folder)
	}
	w.Flush()
	client := "redis-cli"
	if t := c.cfg.TLS; t.On() {
		client += fmt.Sprintf(" --tls --cert %s --key %s --cacert %s", t.Cert, t.Key, t.CA)
	}
	c.say("Whale: %d nodes, data in %s\n\n%s\nTry, in another terminal: what one node has acknowledged, every node answers.\n\n"+
		"  %s -p %d SET greeting hello\n  %s -p %d GET greeting\n\nCtrl-C stops it.",
		len(c.nodes), c.cfg.Dir, table.String(), client, c.cfg.Port, client, c.cfg.Port+len(c.nodes)-1)
}

// Run watches over the nodes until ctx ends, then stops them.
func (c *Cluster) Run(ctx context.Context) {
	for _, m := range c.nodes {
		m.speak(c.say)
	}
	for {
		select {
		case e := <-c.events:
			c.handle(e)
			continue
		case <-ctx.Done():
		}
		break
	}
	c.say("stopping")
	c.stopAll()
	c.folder.Close()
	c.say("stopped; the data is kept in %s", c.cfg.Dir)
}

// handle says what happened, and starts a node again.
func (c *Cluster) handle(e event) {
	m := c.nodes[e.node]
	before := m.state
	m.apply(e)
	switch {
	case e.exit != nil && e.exit.permanent:
		c.say("node %d (pid %d) %s, and will not be started again: that would not help. What it said last:%s", e.node, e.exit.pid, e.exit.how, m.lastLines())
	case e.exit != nil:
		pause := m.nextPause()
		c.say("node %d (pid %d) %s; starting it again in %v", e.node, e.exit.pid, e.exit.how, pause)
		m.later = time.AfterFunc(pause, func() { c.events <- event{node: e.node, restart: true} })
	case e.restart:
		if err := m.start(); err != nil {
			c.say("node %d: %v", e.node, err)
			m.later = time.AfterFunc(m.nextPause(), func() { c.events <- event{node: e.node, restart: true} })
		}
	case m.state.Failed != "" && m.state.Failed != before.Failed:
		c.say("node %d does not serve: %s", e.node, m.state.Failed)
	case m.state.Serving && !before.Serving && m.returning:
		m.returning = false
		c.say("node %d is back: pid %d, %s on %s, epoch %d", e.node, m.pid(), m.state.Role, c.address(e.node), m.state.Epoch)
	}
}

// stopAll stops all nodes at the same time and waits for them.
func (c *Cluster) stopAll() {
	for _, m := range c.nodes {
		m.askToStop()
	}
	for _, m := range c.nodes {
		m.awaitStop(c.events)
	}
}
