//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"whale/internal/config"
	"whale/internal/mirroreval"
	"whale/mirror"
	"whale/pmem"
)

// mirrorBench is `whale mirror bench`.
type mirrorBench struct {
	endpointFlags
	file               string
	size               config.Size
	peers              []string
	workload, strategy string
	threads, rounds    int
	transactions       int
	seed               uint64
}

func mirrorBenchCmd() *cobra.Command {
	var b mirrorBench
	cmd := &cobra.Command{
		Use:   "bench --mirror ADDR[,ADDR...] --file FILE --secret FILE",
		Short: "Run a workload against mirrors that other processes serve",
		Long: `Keeps the data of a workload in a region of persistent memory, the file, and mirrors it to what "whale mirror serve" offers at
the addresses given: on this machine, or on others. It prints how long a transaction takes under each strategy, and how many
times as long as without mirrors. After each run the data is checked.

The file is made if it is missing, with --size, and the workload builds its data in it; else the runs go on with the data that
is there. The mirrors' files must have the same size. A run begins when the mirror has been filled, which is not measured.

To compare all workloads, without a second process or on modelled hardware: whale mirror compare.`,
		Example: `  whale mirror serve --file copy --size 64MiB --secret secret --fabric tcp --listen 127.0.0.1:7400 &
  whale mirror bench --mirror 127.0.0.1:7400 --file region --secret secret --fabric tcp --workload hashmap`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.run(cmd) },
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&b.peers, "mirror", nil, "addresses of the mirrors, as whale mirror serve prints them (required)")
	fl.StringVar(&b.file, "file", "", "the region: a file or a device of persistent memory, kept between runs (required)")
	b.size = 64 << 20
	fl.Var(&b.size, "size", "its size if it is made, and the mirrors'")
	b.bind(cmd, "what connects this side and the mirrors", "127.0.0.1:0")
	fl.StringVar(&b.workload, "workload", "transact-16", "a workload of the catalog: see whale mirror compare --help")
	fl.StringVar(&b.strategy, "strategy", "all", "all, or one of none, sm-rc, sm-ob, sm-dd")
	fl.IntVar(&b.threads, "threads", 0, "threads; 0: as many as the workload says")
	fl.IntVar(&b.transactions, "transactions", 1000, "transactions of each thread in a run")
	fl.IntVar(&b.rounds, "rounds", 5, "runs of each strategy, alternating; the median counts")
	fl.Uint64Var(&b.seed, "seed", 1, "seed of everything that varies")
	cmd.MarkFlagRequired("mirror")
	cmd.MarkFlagRequired("file")
	return cmd
}

func (b *mirrorBench) run(cmd *cobra.Command) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	group, err := mirroreval.Find(b.workload)
	if err != nil {
		return err
	}
	if len(group.Workloads) != 1 {
		return fmt.Errorf("--workload %s is a group: name one of its workloads", b.workload)
	}
	strategies := mirror.Strategies
	if b.strategy != "all" {
		s, err := mirror.ParseStrategy(b.strategy)
		if err != nil {
			return err
		}
		strategies = []mirror.Strategy{s}
	}
	if b.threads < 0 || b.transactions < 1 || b.rounds < 1 {
		return errors.New("--threads counts from 0, --transactions and --rounds from 1")
	}
	w := group.Workloads[0]
	size, from := uint64(b.size), "--size"
	if there, err := os.Stat(b.file); err == nil && there.Mode().IsRegular() && !cmd.Flags().Changed("size") {
		size, from = uint64(there.Size()), "the size of "+b.file
	}
	if need := mirror.HeadSize + w.Size(); size < need {
		return fmt.Errorf("%s is %d: %s needs %d bytes, here and at the mirrors", from, size, w.Name(), need)
	}
	memory, err := pmem.Map(b.file, size, pmem.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	ep, err := b.open(b.file+".fabric", memory.Domain())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ep.Close()) }()
	bar := newBar()
	bench := mirroreval.Bench{
		Workload: w, Memory: memory, Endpoint: ep, Peers: b.peers, Strategies: strategies,
		Threads: b.threads, Transactions: b.transactions, Rounds: b.rounds, Seed: b.seed, Progress: bar.count(),
	}
	rows, err := bench.Run(ctx)
	bar.clear()
	if err != nil {
		return err
	}
	return mirroreval.WriteBench(cmd.OutOrStdout(), rows)
}
