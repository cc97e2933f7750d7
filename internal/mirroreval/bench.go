package mirroreval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"whale/fabric"
	"whale/mirror"
	"whale/pmem"
	"whale/workload"
)

// Bench runs one workload on a region whose mirrors other processes serve, in real time.
type Bench struct {
	Workload     workload.Workload
	Memory       pmem.Memory // the region: blank, or one that an earlier Bench of the workload has closed or left
	Endpoint     fabric.Endpoint
	Peers        []string
	Strategies   []mirror.Strategy
	Threads      int // 0: the workload's own number
	Transactions int // of each thread, in one run
	Rounds       int
	Seed         uint64
	Progress     func(done, total int) // nil: nobody looks
}

// BenchRow is what was found of a strategy.
type BenchRow struct {
	Strategy mirror.Strategy
	Runs     []time.Duration // in order of length; none: the fabric does not have what the strategy needs
	Refused  error           // then, why
	Total    int             // transactions of a run, of all threads
	Threads  int
}

// Each is the median time of one transaction, of its thread.
func (r *BenchRow) Each() time.Duration {
	return r.Runs[len(r.Runs)/2] * time.Duration(r.Threads) / time.Duration(r.Total)
}

// Run alternates the strategies. Each run goes on with the data of the one before, and checks it at its end.
func (b *Bench) Run(ctx context.Context) ([]BenchRow, error) {
	if b.Threads == 0 {
		b.Threads = b.Workload.Threads()
	}
	if err := b.prepare(ctx); err != nil {
		return nil, err
	}
	rows := make([]BenchRow, len(b.Strategies))
	for i, s := range b.Strategies {
		rows[i] = BenchRow{Strategy: s, Total: b.Threads * b.Transactions, Threads: b.Threads}
	}
	for round := range b.Rounds {
		for i := range rows {
			r := &rows[i]
			if r.Refused == nil {
				took, err := b.once(ctx, r.Strategy, b.Seed+uint64(round))
				switch {
				case errors.Is(err, fabric.ErrUnsupported):
					r.Refused = err
				case err != nil:
					return nil, fmt.Errorf("%s under %v: %w", b.Workload.Name(), r.Strategy, err)
				default:
					r.Runs = append(r.Runs, took)
				}
			}
			if b.Progress != nil {
				b.Progress(round*len(rows)+i+1, b.Rounds*len(rows))
			}
		}
	}
	for i := range rows {
		slices.Sort(rows[i].Runs)
	}
	return rows, nil
}

// prepare lets the workload build its data in a region that is blank.
func (b *Bench) prepare(ctx context.Context) error {
	label, err := mirror.Inspect(b.Memory)
	if err != nil || label.State.Condition != mirror.Blank {
		return err
	}
	r, err := mirror.Open(ctx, b.Memory, nil, nil, mirror.Options{})
	if err != nil {
		return err
	}
	if err := b.Workload.Prepare(r); err != nil {
		return errors.Join(fmt.Errorf("%s: prepare: %w", b.Workload.Name(), err), r.Close())
	}
	return r.Close()
}

// once is one run.
func (b *Bench) once(ctx context.Context, strategy mirror.Strategy, seed uint64) (time.Duration, error) {
	peers := b.Peers
	if strategy == mirror.None {
		peers = nil
	}
	r, err := mirror.Open(ctx, b.Memory, b.Endpoint, peers, mirror.Options{Strategy: strategy, Threads: b.Threads})
	if err != nil {
		return 0, err
	}
	program, err := b.Workload.Open(r)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("the region has no sound data of %s (if it was made for another workload, take another file): %w", b.Workload.Name(), err), r.Close())
	}
	took, err := timed(program, b.Threads, b.Transactions, seed)
	if err == nil {
		err = program.Check()
	}
	return took, errors.Join(err, r.Close())
}

// timed runs n transactions in each of so many threads.
func timed(program workload.Program, threads, n int, seed uint64) (time.Duration, error) {
	errs := make([]error, threads)
	var running sync.WaitGroup
	start := time.Now()
	for i := range errs {
		running.Go(func() { errs[i] = program.Run(workload.NewThread(i, seed, workload.Real{}), n) })
	}
	running.Wait()
	return time.Since(start), errors.Join(errs...)
}

// WriteBench prints a line for each strategy.
func WriteBench(out io.Writer, rows []BenchRow) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ttransactions/s\tone takes\tlowest\thighest\ttimes none\t")
	none := slices.IndexFunc(rows, func(r BenchRow) bool { return r.Strategy == mirror.None && len(r.Runs) > 0 })
	for i := range rows {
		r := &rows[i]
		if len(r.Runs) == 0 {
			fmt.Fprintf(t, "%v\t-\t-\t-\t-\t-\t\n", r.Strategy)
			continue
		}
		times := "-"
		if none >= 0 {
			times = fmt.Sprintf("%.2f", float64(r.Each())/float64(rows[none].Each()))
		}
		each := func(d time.Duration) string { return micros(d * time.Duration(r.Threads) / time.Duration(r.Total)) }
		fmt.Fprintf(t, "%v\t%.0f\t%s\t%s\t%s\t%s\t\n", r.Strategy, float64(r.Total)/r.Runs[len(r.Runs)/2].Seconds(),
			micros(r.Each()), each(r.Runs[0]), each(r.Runs[len(r.Runs)-1]), times)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Refused != nil {
			if _, err := fmt.Fprintf(out, "%v: %v\n", r.Strategy, r.Refused); err != nil {
				return err
			}
		}
	}
	return nil
}
