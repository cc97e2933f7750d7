//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"whale/internal/config"
	"whale/internal/dev"
	"whale/internal/node"
)

func devCmd() *cobra.Command {
	cfg := dev.Config{}
	var arena config.Size
	var timeout time.Duration
	var threads, mirrors int
	var policy, protocol string
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, to try things",
		Long: `Starts a cluster of real processes on this machine, waits until it serves, and watches over it: a node that dies is
started again. Ctrl-C stops everything; the data stays in --dir and is there again at the next start.

All copies are on this one machine: they survive the end of processes, not that of the machine.`,
		Example: `  whale dev
  whale dev --fabric tcp
  whale cert --dir certs --host localhost,127.0.0.1
  whale dev --fabric tcp --tls-cert certs/node.crt --tls-key certs/node.key --tls-ca certs/ca.crt
  whale dev --nodes 5 --port 7101 --dir ./five --arena 256MiB`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if cfg.TLS.On() { // before three nodes say it
				if _, err := cfg.TLS.Load(); err != nil {
					return err
				}
			}
			cfg.Program = []string{self, "serve"}
			cfg.Out = cmd.OutOrStdout()
			for _, name := range []string{"arena", "timeout", "threads", "policy", "mirrors", "protocol"} {
				if f := cmd.Flags().Lookup(name); f.Changed {
					cfg.Flags = append(cfg.Flags, "--"+name, f.Value.String())
				}
			}
			if cfg.Nodes == 1 {
				fmt.Fprintln(cfg.Out, "One node: what it acknowledges is in one copy only (--min-copies 1).")
				cfg.Flags = append(cfg.Flags, "--min-copies", "1")
			}
			return runDev(cmd.Context(), cfg)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&cfg.Nodes, "nodes", 3, fmt.Sprintf("number of nodes, 1 to %d", dev.MaxNodes))
	fl.IntVar(&cfg.Port, "port", 7001, "node i serves Redis clients on port+i")
	fl.StringVar(&cfg.Dir, "dir", "./whale-data", "where the nodes keep their data, a folder each")
	fl.StringVar(&cfg.Fabric, "fabric", node.FabricSHM, fmt.Sprintf("what connects the nodes: shm, tcp or verbs; over the latter two, node i listens for the others on port+%d+i", dev.FabricOffset))
	fl.StringVar(&cfg.TLS.Cert, "tls-cert", "", "certificate of all nodes, for 127.0.0.1: turns TLS on for Redis clients, and between nodes with --fabric tcp; whale cert makes it")
	fl.StringVar(&cfg.TLS.Key, "tls-key", "", "the key of --tls-cert, mode 0600")
	fl.StringVar(&cfg.TLS.CA, "tls-ca", "", "certificate of the authority that clients' and nodes' certificates must be signed by")
	fl.Var(&arena, "arena", "memory of each node for records (default: that of the existing data, or 1GiB)")
	fl.DurationVar(&timeout, "timeout", node.DefaultCommandTimeout, "a command that is not done by then fails")
	fl.StringVar(&policy, "policy", "mirror", "what is durable where before a write is acknowledged: mirror, metadata or all")
	fl.StringVar(&protocol, "protocol", "whale", "how writes are replicated: whale or chain")
	fl.IntVar(&mirrors, "mirrors", 1, "policy mirror: backups that hold the data before a write is acknowledged")
	fl.IntVar(&threads, "threads", 1, "threads of each node that serve clients")
	return cmd
}

func runDev(ctx context.Context, cfg dev.Config) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c, err := dev.Start(ctx, cfg)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("interrupted while the cluster was starting; the data is kept in %s", cfg.Dir)
	}
	if err != nil {
		return err
	}
	c.Table()
	c.Run(ctx)
	return nil
}
