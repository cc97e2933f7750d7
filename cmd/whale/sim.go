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

	"github.com/spf13/cobra"

	"whale/internal/sim"
)

// simCmd is `whale sim`.
func simCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "sim", Short: "Look for faults of the protocol in a simulated cluster"}
	cmd.AddCommand(simCheckCmd())
	return cmd
}

type simFlags struct {
	seeds, seed   uint64
	faults, trace string
	workers       int
}

func simCheckCmd() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Run a simulated cluster once for each of many seeds, and check everything",
		Long: `Runs the engines of a cluster, with clients, in one goroutine, on a simulated network and simulated persistent memory, in
virtual time. Each seed draws a cluster and what goes wrong: crashes, losses of power, pauses, cut and slow ways, lost
connections, writes that stay in the middle, damaged memory, clocks. After every step the invariants of the protocol are checked, and at the end that what
the clients saw is linearizable.

It needs no cluster and touches no files. When a seed fails, it prints what was wrong, the command that runs that seed
again, and the smallest schedule of faults that it found to fail in the same way.

--faults reads a file like {"crash": 10, "power": 0, "drift": 200}: rates in 1000 operations; what it does not name keeps its
default. It may also hold a "cluster" and a "schedule", as a failing run prints them.`,
		Example: `  whale sim check
  whale sim check --seeds 50000
  whale sim check --seed 1762 --seeds 1 --trace story.txt`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := cmd.Flags()
	fl.Uint64Var(&f.seeds, "seeds", 1000, "how many seeds to run")
	fl.Uint64Var(&f.seed, "seed", 1, "the first of them")
	fl.StringVar(&f.faults, "faults", "", "file that says what goes wrong, as JSON")
	fl.StringVar(&f.trace, "trace", "", "file for the story of the run, a line an event and a column a node; only with --seeds 1")
	fl.IntVar(&f.workers, "workers", 0, "runs at a time; 0: one for each processor")
	return cmd
}

func (f *simFlags) run(cmd *cobra.Command) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch {
	case f.seeds == 0:
		return errors.New("--seeds 0: at least one seed is needed")
	case f.seed+f.seeds < f.seed:
		return fmt.Errorf("--seed %d --seeds %d: the last seed is beyond 64 bits", f.seed, f.seeds)
	case f.workers < 0:
		return fmt.Errorf("--workers %d: it must be 0, for as many as there are processors, or more", f.workers)
	case f.trace != "" && f.seeds != 1:
		return errors.New("--trace tells the story of one seed: give --seeds 1 too")
	}
	o := sim.Options{Faults: sim.DefaultFaults()}
	if f.faults != "" {
		if o.Faults, err = readFaults(f.faults); err != nil {
			return err
		}
	}
	if f.trace != "" {
		file, err := os.Create(f.trace)
		if err != nil {
			return fmt.Errorf("--trace: %w", err)
		}
		defer file.Close()
		o.Trace = file
	}
	bar := newBar()
	campaign := sim.Campaign{Options: o, First: f.seed, Seeds: f.seeds, Workers: f.workers}
	if bar.ProgressBar != nil {
		bar.Step("seeds", 0, 1)
		campaign.Progress = func(done, total uint64) { bar.Part(float64(done) / float64(total)) }
	}
	start := time.Now()
	report, err := sim.Check(ctx, campaign)
	bar.clear()
	if report == nil {
		return err
	}
	return errors.Join(err, f.print(cmd.OutOrStdout(), report, time.Since(start)))
}

func readFaults(path string) (sim.Faults, error) {
	file, err := os.Open(path)
	if err != nil {
		return sim.Faults{}, fmt.Errorf("--faults: %w", err)
	}
	defer file.Close()
	faults, err := sim.ReadFaults(file)
	if err != nil {
		return sim.Faults{}, fmt.Errorf("--faults %s: %w", path, err)
	}
	return faults, nil
}

func (f *simFlags) print(w io.Writer, r *sim.Report, took time.Duration) error {
	fmt.Fprintf(w, "%d seeds, %d operations, %d faults, %d events in %v: %.0f operations a second\n",
		r.Seeds, r.Operations, r.Faults, r.Events, took.Round(time.Millisecond), float64(r.Operations)/took.Seconds())
	if r.Unsure > 0 {
		fmt.Fprintf(w, "%d histories were too long to be checked in the time that each is given\n", r.Unsure)
	}
	if r.Failure == nil {
		return nil
	}
	bad, small := r.Failure.Result, r.Failure.Small
	fmt.Fprintf(w, "\nSeed %d violates %v\n\nTo run it again:\n  whale sim check --seed %d --seeds 1", bad.Seed, bad.Violation, bad.Seed)
	if f.faults != "" {
		fmt.Fprintf(w, " --faults %s", f.faults)
	}
	text, err := r.Failure.JSON()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, " --trace story.txt\n\nIt also happens with %d of the %d faults, in %d of %d operations: %v\n\nThat is the file faults.json of\n  whale sim check --seed %d --seeds 1 --faults faults.json --trace story.txt\n\n%s\n",
		len(small.Faults), len(bad.Faults), small.Operations, bad.Operations, small.Violation, bad.Seed, text)
	return fmt.Errorf("seed %d violates %s", bad.Seed, bad.Violation.Invariant)
}
