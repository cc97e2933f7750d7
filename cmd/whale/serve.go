//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/internal/node"
	"whale/internal/replication"
)

type serveFlags struct {
	cfg               node.Config
	dir, listen       string
	port              int
	arena             size
	value             size
	policy            string
	logLevel          string
	parentFD, stateFD int
}

func serveCmd() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node of a cluster",
		Long: `Runs one node: it serves Redis clients and replicates with the other members of its cluster, on this machine, through
shared memory. Every node is told the data folders of all members in the same order; the first one is the primary.

All nodes need the same secret, a file that only its owner can read. Nodes listen on a loopback address unless --insecure
is given: whoever reaches the port reads and writes everything.

SIGTERM and SIGINT stop the node in order. Exit code 65 means that starting it again would not help: somebody has to look
first (damaged data, a wrong setting).`,
		Example: `  (umask 077; openssl rand -hex 32 > secret)
  whale serve --id 0 --peers a,b,c --port 7001 --secret secret
  whale serve --id 1 --peers a,b,c --port 7002 --secret secret
  whale serve --id 2 --peers a,b,c --port 7003 --secret secret`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.IntVar(&f.cfg.ID, "id", 0, "this node's place in --peers, counted from 0; node 0 is the primary")
	fl.StringSliceVar(&f.cfg.Dirs, "peers", nil, "data folders of all members, this one's too, in the same order at all of them")
	fl.StringVar(&f.dir, "dir", "", "this node's data folder (default: its entry in --peers)")
	fl.StringVar(&f.listen, "listen", "", "address for Redis clients, host:port (default 127.0.0.1 and --port)")
	fl.IntVar(&f.port, "port", 7001, "port for Redis clients on 127.0.0.1; 0: any free one")
	fl.StringVar(&f.cfg.Secret, "secret", "", "file with the cluster's secret: 64 hexadecimal digits, mode 0600 (required)")
	fl.Var(&f.arena, "arena", "memory for records, in a file of the data folder, the same at all nodes (default: that of the existing file, or 1GiB)")
	fl.StringVar(&f.policy, "policy", "mirror", "what is durable where before a write is acknowledged: mirror, metadata or all; the primary's setting counts")
	fl.IntVar(&f.cfg.Mirrors, "mirrors", 1, "policy mirror: backups that hold the data before a write is acknowledged")
	fl.IntVar(&f.cfg.MinCopies, "min-copies", 0, "take writes with so many copies, although the policy wants more (default: no fewer than it wants)")
	fl.DurationVar(&f.cfg.CommandTimeout, "timeout", node.DefaultCommandTimeout, "a command that is not done by then fails")
	fl.IntVar(&f.cfg.MaxClients, "max-clients", node.DefaultMaxClients, "connections of Redis clients")
	fl.Var(&f.value, "max-argument", "largest argument of a command (default 64MiB)")
	fl.IntVar(&f.cfg.Threads, "threads", 1, "threads that serve clients; more than one helps with many cores and many reads")
	fl.BoolVar(&f.cfg.Insecure, "insecure", false, "allow an address that is not loopback: no password, no encryption")
	fl.StringVar(&f.logLevel, "log-level", "info", "what to log on stderr: debug, info, warn or error")
	fl.IntVar(&f.parentFD, "parent-fd", -1, "a pipe: stop when its other end is closed")
	fl.IntVar(&f.stateFD, "state-fd", -1, "a pipe: write the node's state to it, as lines of JSON")
	fl.MarkHidden("parent-fd")
	fl.MarkHidden("state-fd")
	cmd.MarkFlagsMutuallyExclusive("listen", "port")
	return cmd
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	if err := f.settle(); err != nil {
		return &node.PermanentError{Err: err}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.parentFD >= 0 {
		if err := node.WatchParent(f.parentFD, cancel); err != nil {
			return err
		}
	}
	if f.stateFD >= 0 {
		report, err := node.Reporter(f.stateFD)
		if err != nil {
			return err
		}
		f.cfg.Observe = report
	}
	observe := f.cfg.Observe
	f.cfg.Observe = func(s node.State) {
		switch {
		case s.Failed != "":
			f.cfg.Log.Error("the shard is not served", "error", s.Failed)
		case observe != nil: // whoever reads the states tells people
		case s.Serving:
			f.cfg.Log.Info("serving", "role", s.Role, "epoch", s.Epoch)
		default:
			f.cfg.Log.Info("not serving yet", "role", s.Role, "waits for", s.Waiting)
		}
		if observe != nil {
			observe(s)
		}
	}
	n, err := node.Open(f.cfg)
	if err != nil {
		return err
	}
	f.cfg.Log.Log(cmd.Context(), listenLevel(f.stateFD), "listening for Redis clients", "address", n.Redis(), "member", f.cfg.ID)
	err = n.Run(ctx)
	if cerr := n.Close(); err == nil {
		err = cerr
	}
	return err
}

// listenLevel: a person who starts a node by hand wants to see its address; a program that started it knows.
func listenLevel(stateFD int) slog.Level {
	if stateFD >= 0 {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// settle turns flags into the node's settings.
func (f *serveFlags) settle() error {
	cfg := &f.cfg
	var err error
	if cfg.Policy, err = replication.ParsePolicy(f.policy); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if len(cfg.Dirs) == 0 && f.dir != "" {
		cfg.Dirs = []string{f.dir} // a cluster of one
	}
	if f.dir != "" && cfg.ID >= 0 && cfg.ID < len(cfg.Dirs) && filepath.Clean(f.dir) != filepath.Clean(cfg.Dirs[cfg.ID]) {
		return fmt.Errorf("--dir %s is not what --peers has at place %d (--id): %s", f.dir, cfg.ID, cfg.Dirs[cfg.ID])
	}
	if cfg.Secret == "" {
		return fmt.Errorf("--secret is missing: name the file with the cluster's secret, the same at all nodes; make one with: (umask 077; openssl rand -hex 32 > secret)")
	}
	if cfg.CommandTimeout < time.Millisecond {
		return fmt.Errorf("--timeout %v: expected at least 1ms", cfg.CommandTimeout)
	}
	if cfg.MaxClients < 1 {
		return fmt.Errorf("--max-clients %d: expected at least 1", cfg.MaxClients)
	}
	if cfg.Listen = f.listen; cfg.Listen == "" {
		cfg.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port))
	}
	cfg.Arena, cfg.Limits.MaxBulk, cfg.Version = uint64(f.arena), int(f.value), version()
	if cfg.Limits.MaxBulk > 0 {
		cfg.Limits.MaxCommand = 2 * cfg.Limits.MaxBulk
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: expected debug, info, warn or error", f.logLevel)
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return nil
}
