//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/internal/certs"
	"whale/internal/config"
	"whale/internal/node"
	"whale/internal/replication"
)

type serveFlags struct {
	settings          config.Settings
	cfg               node.Config
	parentFD, stateFD int
}

func serveCmd() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one node of a cluster",
		Long: `Runs one node: it serves Redis clients and replicates with the other members of its cluster: on this machine, through
shared memory, or over TCP (--fabric tcp) or RDMA (--fabric verbs). Every node is told all members in the same order, by their data folders, or by
host and port of their fabric; the first one is the primary.

All nodes need the same secret, a file that only its owner can read. Nodes listen on a loopback address unless --insecure
is given: whoever reaches the port reads and writes everything.

Settings come from flags, from the environment (--max-clients is WHALE_MAX_CLIENTS) and from the file that --config names,
in this order. whale config prints them all.

SIGTERM and SIGINT stop the node in order. Exit code 65 means that starting it again would not help: somebody has to look
first (damaged data, a wrong setting).`,
		Example: `  (umask 077; openssl rand -hex 32 > secret)
  whale serve --config node.toml
  whale serve --id 0 --peers a,b,c --port 7001 --secret secret
  whale serve --id 1 --peers a,b,c --port 7002 --secret secret
  whale serve --id 2 --peers a,b,c --port 7003 --secret secret

  whale serve --id 0 --fabric tcp --peers h0:7101,h1:7101,h2:7101 --dir data --secret secret --insecure
  whale serve --id 0 --fabric verbs --peers h0:7101,h1:7101,h2:7101 --dir data --memory /dev/dax0.0 --secret secret --insecure`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	f.settings.Bind(fl)
	fl.IntVar(&f.parentFD, "parent-fd", -1, "a pipe: stop when its other end is closed")
	fl.IntVar(&f.stateFD, "state-fd", -1, "a pipe: write the node's state to it, as lines of JSON")
	fl.MarkHidden("parent-fd")
	fl.MarkHidden("state-fd")
	cmd.MarkFlagsMutuallyExclusive("listen", "port")
	return cmd
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	err := f.settings.Load(cmd.Flags(), os.Environ())
	if err == nil {
		f.cfg, err = nodeConfig(&f.settings)
		f.cfg.File = cmp.Or(cmd.Flag(config.FileFlag).Value.String(), os.Getenv(config.Env(config.FileFlag)))
	}
	if err != nil {
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
	manager, err := node.NewNotifier()
	if err != nil {
		return err
	}
	observe := f.cfg.Observe
	f.cfg.Observe = func(s node.State) {
		manager.State(s)
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
	if n.Admin() != "" {
		f.cfg.Log.Log(cmd.Context(), listenLevel(f.stateFD), "listening for operators", "address", "http://"+n.Admin())
	}
	manager.Ready()
	defer context.AfterFunc(ctx, manager.Stopping)()
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

// nodeConfig turns settings into the node's.
func nodeConfig(s *config.Settings) (cfg node.Config, err error) {
	cfg = node.Config{
		ID: s.ID, Peers: s.Peers, Dir: s.Dir, Fabric: s.Fabric, FabricListen: s.FabricListen, Device: s.Device, DirectWrite: s.DirectWrite, TLS: certs.Files{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}, Secret: s.Secret, Version: version(),
		Memory: s.Memory, Arena: uint64(s.Arena), Protocol: s.Protocol, Mirrors: s.Mirrors, MinCopies: s.MinCopies, CommandTimeout: s.Timeout,
		MaxClients: s.MaxClients, Threads: s.Threads, Insecure: s.Insecure,
		Password: s.Password, SlowerThan: s.SlowerThan, SlowMax: s.SlowMax, LatencyThreshold: s.LatencyFrom, EnableDebug: s.EnableDebug, Admin: s.Admin,
	}
	if cfg.Policy, err = replication.ParsePolicy(s.Policy); err != nil {
		return cfg, fmt.Errorf("--policy: %w", err)
	}
	if len(cfg.Peers) == 0 && s.Dir != "" && s.Fabric == node.FabricSHM {
		cfg.Peers = []string{s.Dir} // a cluster of one
	}
	if cfg.Secret == "" {
		return cfg, fmt.Errorf("--secret is missing: name the file with the cluster's secret, the same at all nodes; make one with: (umask 077; openssl rand -hex 32 > secret)")
	}
	if cfg.CommandTimeout < time.Millisecond {
		return cfg, fmt.Errorf("--timeout %v: expected at least 1ms", cfg.CommandTimeout)
	}
	for name, v := range map[string]int64{"slowlog-log-slower-than": s.SlowerThan + 1, "slowlog-max-len": s.SlowMax, "latency-monitor-threshold": s.LatencyFrom} {
		if v < 0 {
			return cfg, fmt.Errorf("--%s: expected a larger number", name)
		}
	}
	if cfg.MaxClients < 1 {
		return cfg, fmt.Errorf("--max-clients %d: expected at least 1", cfg.MaxClients)
	}
	cfg.Listen = s.RedisAddress()
	if cfg.Limits.MaxBulk = int(s.MaxArgument); cfg.Limits.MaxBulk > 0 {
		cfg.Limits.MaxCommand = 2 * cfg.Limits.MaxBulk
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return cfg, fmt.Errorf("--log-level %q: expected debug, info, warn or error", s.LogLevel)
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return cfg, nil
}
