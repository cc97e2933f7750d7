//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"whale/internal/certs"
	"whale/internal/config"
	"whale/internal/eval"
	"whale/internal/node"
)

// benchCmd is `whale bench`.
func benchCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure latency and throughput"}
	cmd.AddCommand(benchRedisCmd(), benchFabricCmd())
	return cmd
}

type benchFlags struct {
	addrs, ops              []string
	values, conns, pipeline []int
	compare, noFill, secure bool
	keys, rounds, workers   int
	replicas                int
	count, seed             uint64
	duration, warmup        time.Duration
	arena                   config.Size
	dir, redisServer, csv   string
	fabric                  string
	tls                     certs.Files
}

func benchRedisCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "redis --addr HOST:PORT[,...] | --compare",
		Short: "Drive Redis servers, Whale among them, or compare Whale with Redis",
		Long: `Drives servers that speak Redis's protocol through every combination of operation, size of values, connections
and pipeline, and prints throughput and latencies.

The load is a closed loop: each connection sends a batch of requests (one without a pipeline) and the next batch when all
replies have come. A latency runs from the moment the batch is handed to the socket to the complete reply; for SET+WAIT,
where one WAIT stands behind each batch, to the reply to WAIT. There is no schedule of arrivals, hence no correction for
"coordinated omission": while a server stalls, a closed loop sends it nothing.

With --tls-cert, --tls-key and --tls-ca it speaks TLS 1.3; latencies then have its encryption in them.

It writes the keys key:000000000000, key:000000000001 ... of the key space into the servers that it is given.

With --compare it starts what it compares: a redis-server with two replicas, and a fresh Whale cluster of three nodes for
each size of values and round. The runs alternate; medians are printed with their spread, and against the project's targets.`,
		Example: `  whale bench redis --addr 127.0.0.1:7001
  whale bench redis --addr 127.0.0.1:6379 --op set,get,set+wait --conns 1,50 --csv out.csv
  whale bench redis --addr h0:7001 --tls-cert h1/node.crt --tls-key h1/node.key --tls-ca h1/ca.crt
  whale bench redis --compare --rounds 5
  whale bench redis --compare --fabric tcp --tls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			cmd.SetContext(ctx)
			if f.compare && f.tls.On() {
				return errors.New("--compare starts the servers that it measures, and makes certificates for them with --tls: leave out --tls-cert, --tls-key and --tls-ca, or name running servers with --addr")
			}
			if f.compare {
				return f.runCompare(cmd)
			}
			return f.runBench(cmd)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&f.addrs, "addr", nil, "servers to drive; connections are dealt out to them in turn")
	fl.StringVar(&f.tls.Cert, "tls-cert", "", "certificate to show to the servers: turns TLS on; whale cert makes it (not with --compare)")
	fl.StringVar(&f.tls.Key, "tls-key", "", "the key of --tls-cert, mode 0600")
	fl.StringVar(&f.tls.CA, "tls-ca", "", "certificate of the authority that the servers' certificates must be signed by")
	fl.BoolVar(&f.compare, "compare", false, "start Redis and Whale, and compare them")
	fl.StringSliceVar(&f.ops, "op", []string{"set", "get"}, "operations: set, get, set+wait (not with --compare, which runs all)")
	fl.IntSliceVar(&f.values, "value", []int{64, 4096}, "sizes of values in bytes")
	fl.IntSliceVar(&f.conns, "conns", []int{1, 50}, "numbers of connections")
	fl.IntSliceVar(&f.pipeline, "pipeline", []int{1, 16}, "requests in a batch")
	fl.IntVar(&f.keys, "keys", 50_000, "size of the key space")
	fl.DurationVar(&f.duration, "duration", 2*time.Second, "length of each run; 0: --count bounds it")
	fl.Uint64Var(&f.count, "count", 0, "operations of each run, its warm-up included; 0: --duration bounds it (not with --compare)")
	fl.DurationVar(&f.warmup, "warmup", 300*time.Millisecond, "what each run does before it measures; at most a fifth of --count")
	fl.IntVar(&f.replicas, "replicas", 2, "copies that set+wait waits for (not with --compare: 2)")
	fl.IntVar(&f.workers, "workers", 1, "event loops of the load generator")
	fl.Uint64Var(&f.seed, "seed", 1, "seed of keys and values")
	fl.BoolVar(&f.noFill, "no-fill", false, "do not set all keys first: they are there, with values of the right size (not with --compare)")
	fl.StringVar(&f.csv, "csv", "", "also write every run as CSV to this file; -: to standard output instead of the table")
	fl.IntVar(&f.rounds, "rounds", 5, "--compare: rounds; medians of them are printed")
	f.arena = 2 << 30
	fl.Var(&f.arena, "arena", "--compare: memory of each node for records; it bounds the SETs of a run")
	fl.StringVar(&f.dir, "dir", "", "--compare: folder below which a temporary one is made for all data (default: in memory if there is room)")
	fl.StringVar(&f.fabric, "fabric", node.FabricSHM, "--compare: what connects Whale's nodes: shm or tcp")
	fl.BoolVar(&f.secure, "tls", false, "--compare: with TLS for clients, between Redis's servers, and with --fabric tcp between Whale's; certificates are made for it")
	fl.StringVar(&f.redisServer, "redis-server", "redis-server", "--compare: the redis-server to start")
	cmd.MarkFlagsOneRequired("addr", "compare")
	cmd.MarkFlagsMutuallyExclusive("addr", "tls")
	for _, flag := range []string{"addr", "op", "count", "no-fill", "replicas"} {
		cmd.MarkFlagsMutuallyExclusive("compare", flag)
	}
	return cmd
}

func (f *benchFlags) runBench(cmd *cobra.Command) error {
	var ops []eval.Op
	for _, s := range f.ops {
		op, err := eval.ParseOp(s)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	b := eval.Bench{
		Addrs: f.addrs, Cells: eval.Matrix(ops, f.values, f.conns, f.pipeline), Keys: f.keys, Duration: f.duration, Count: f.count,
		Warmup: f.warmup, Replicas: f.replicas, Workers: f.workers, Seed: f.seed, NoFill: f.noFill, Notes: cmd.ErrOrStderr(),
	}
	if f.tls.On() {
		var err error
		if b.TLS, err = eval.NewTLS(f.tls); err != nil {
			return err
		}
	}
	bar := newBar()
	b.Progress = bar.orNil()
	rows, err := b.Run(cmd.Context())
	bar.clear()
	if len(rows) == 0 {
		return err
	}
	if werr := f.writeRows(cmd.OutOrStdout(), rows, func(w io.Writer) error { return eval.WriteTable(w, rows) }); err == nil {
		err = werr
	}
	return err
}

func (f *benchFlags) runCompare(cmd *cobra.Command) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to start a cluster with it: %w", err)
	}
	c := eval.Compare{
		Whale: []string{self, "dev", "--fabric", f.fabric}, Network: f.fabric != node.FabricSHM, RedisServer: f.redisServer, Secure: f.secure, Dir: f.dir, Arena: uint64(f.arena), Keys: f.keys, Values: f.values,
		Conns: f.conns, Pipelines: f.pipeline, Rounds: f.rounds, Duration: f.duration, Warmup: f.warmup, Workers: f.workers, Seed: f.seed,
		Notes: cmd.ErrOrStderr(),
	}
	bar := newBar()
	c.Progress = bar.orNil()
	got, err := c.Run(cmd.Context())
	bar.clear()
	if err != nil {
		return err
	}
	return f.writeRows(cmd.OutOrStdout(), got.Rows(), got.Write)
}

// writeRows prints the table, and the CSV where it is wanted.
func (f *benchFlags) writeRows(out io.Writer, rows []eval.Row, table func(io.Writer) error) error {
	if f.csv == "-" {
		return eval.WriteCSV(out, rows)
	}
	if f.csv != "" {
		file, err := os.Create(f.csv)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := eval.WriteCSV(file, rows); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
	return table(out)
}

// bar is a progress bar on standard error, or nothing if that is no terminal.
type bar struct {
	*progressbar.ProgressBar
	step, of int
}

func newBar() *bar {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil {
		return &bar{}
	}
	return &bar{ProgressBar: progressbar.NewOptions(1000,
		progressbar.OptionSetWriter(os.Stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true),
		progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth())}
}

// orNil is the interface without a bar in it if there is none.
func (b *bar) orNil() eval.Progress {
	if b.ProgressBar == nil {
		return nil
	}
	return b
}

func (b *bar) Step(name string, step, of int) {
	b.step, b.of = step, of
	b.Describe(name)
	b.Part(0)
}

func (b *bar) Part(part float64) { b.Set(int(1000 * (float64(b.step) + part) / float64(b.of))) }

// count is for what counts what it has done; nil without a bar.
func (b *bar) count() func(done, total int) {
	if b.ProgressBar == nil {
		return nil
	}
	return func(done, total int) { b.Set(1000 * done / max(1, total)) }
}

func (b *bar) clear() {
	if b.ProgressBar != nil {
		b.Finish()
	}
}
