package mirroreval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"whale/fabric"
	"whale/mirror"
	"whale/timing"
	"whale/workload/epochs"
)

// Mirrored are the strategies that mirror, the baseline first.
var Mirrored = []mirror.Strategy{mirror.RemoteCommit, mirror.OrderedBuffering, mirror.DDIODisabled}

// Row is a workload under every strategy.
type Row struct {
	Group, Workload string
	Threads         int
	Transactions    int // of a run, of all threads
	Shape           epochs.Summary
	Time            [4]time.Duration // of a run, by strategy; 0: it is not to be had
}

// Each is the time of a transaction, as one thread sees it.
func (r *Row) Each(s mirror.Strategy) time.Duration {
	return r.Time[s] * time.Duration(r.Threads) / time.Duration(max(1, r.Transactions))
}

// Slowdown is how many times as long as without a mirror it takes. NaN: one of the times is missing.
func (r *Row) Slowdown(s mirror.Strategy) float64 { return ratio(r.Time[s], r.Time[mirror.None]) }

// SpeedUp is how many times as fast as SM-RC it is. NaN: one of the times is missing.
func (r *Row) SpeedUp(s mirror.Strategy) float64 {
	return ratio(r.Time[mirror.RemoteCommit], r.Time[s])
}

func ratio(a, b time.Duration) float64 {
	if a == 0 || b == 0 {
		return math.NaN()
	}
	return float64(a) / float64(b)
}

// Mean is the geometric mean of a ratio over rows; NaN of none, and if one is missing.
func Mean(rows []Row, of func(*Row) float64) float64 {
	sum := 0.0
	for i := range rows {
		sum += math.Log(of(&rows[i]))
	}
	return math.Exp(sum / float64(len(rows)))
}

// Compare is a comparison.
type Compare struct {
	Groups       []Group
	Run          Runner
	Rounds       int // runs of each, alternating, of which the median counts; 0: 1
	Threads      int // 0: as many as each workload says
	Transactions int // of each thread; 0: as many as give a run Epochs epochs
	Epochs       int // about; 0: DefaultEpochs
	Seed         uint64
	// Progress hears how many of the runs have ended; nil: nobody asks.
	Progress func(done, total int)
}

// DefaultEpochs is about how many epochs a run has. A run of a sensitivity table has a tenth of them.
const DefaultEpochs = 20_000

// Rows runs every workload under every strategy. It ends early, with an error, when ctx does.
func (c *Compare) Rows(ctx context.Context) ([]Row, error) {
	subjects, err := c.subjects(ctx, c.Groups, c.epochs())
	if err != nil {
		return nil, err
	}
	done := 0
	return c.rows(ctx, subjects, c.Run, func() {
		done++
		c.report(done, len(subjects)*len(mirror.Strategies)*max(1, c.Rounds))
	})
}

func (c *Compare) epochs() int {
	if c.Epochs == 0 {
		return DefaultEpochs
	}
	return c.Epochs
}

func (c *Compare) report(done, total int) {
	if c.Progress != nil {
		c.Progress(done, total)
	}
}

func (c *Compare) subjects(ctx context.Context, groups []Group, enough int) ([]*Subject, error) {
	var all []*Subject
	for _, g := range groups {
		for _, w := range g.Workloads {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			s, err := NewSubject(w, c.Threads, c.Transactions, enough, c.Seed)
			if err != nil {
				return nil, err
			}
			s.group = g.Name
			all = append(all, s)
		}
	}
	return all, nil
}

func (c *Compare) rows(ctx context.Context, subjects []*Subject, run Runner, ran func()) ([]Row, error) {
	var rows []Row
	for _, s := range subjects {
		row := Row{Group: s.group, Workload: s.Name(), Threads: s.Threads, Transactions: s.Threads * s.Transactions, Shape: s.Shape}
		var times [4][]time.Duration
		for range max(1, c.Rounds) {
			for _, strategy := range mirror.Strategies {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				took, err := run(ctx, s, strategy)
				if err != nil && !errors.Is(err, fabric.ErrUnsupported) {
					return nil, fmt.Errorf("%s, %v: %w", s.Name(), strategy, err)
				}
				times[strategy] = append(times[strategy], took)
				ran()
			}
		}
		for i, all := range times {
			slices.Sort(all)
			row.Time[i] = all[len(all)/2]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Effect is what one parameter does to the comparison, at the ends of its range.
type Effect struct {
	Name     string
	Unit     string
	Min, Max float64
	AtMin    [4]float64 // geometric mean of the speed-up over SM-RC, by strategy
	AtMax    [4]float64
}

// Moves is the larger of the factors by which the parameter moves a speed-up, from one end of its range to the other.
func (e *Effect) Moves() float64 {
	most := 1.0
	for _, s := range Mirrored {
		f := e.AtMax[s] / e.AtMin[s]
		most = max(most, f, 1/f)
	}
	return most
}

// Sensitivity runs the comparison of the first group on modelled hardware with each parameter at either end of its range, all
// others as in p, and with the memory behind eADR and behind CXL. A parameter that contradicts another one there is left out.
func (c *Compare) Sensitivity(ctx context.Context, p timing.Params) ([]Effect, error) {
	subjects, err := c.subjects(ctx, c.Groups[:1], max(200, c.epochs()/10))
	if err != nil {
		return nil, err
	}
	type change struct {
		Effect
		low, high timing.Params
	}
	var changes []change
	for _, a := range timing.All {
		low, high := p, p
		*a.Of(&low), *a.Of(&high) = a.Min, a.Max
		if low.Check() == nil && high.Check() == nil {
			changes = append(changes, change{Effect{Name: a.Name, Unit: a.Unit, Min: a.Min, Max: a.Max}, low, high})
		}
	}
	adr, eadr, cxl := p, p, p
	adr.Memory.EADR, eadr.Memory.EADR = false, true
	changes = append(changes, change{Effect{Name: "memory.eadr", Max: 1}, adr, eadr})
	adr = p
	adr.Memory.CXL, cxl.Memory.CXL = false, true
	changes = append(changes, change{Effect{Name: "memory.cxl", Max: 1}, adr, cxl})

	var effects []Effect
	done, total := 0, len(changes)*2*len(subjects)*len(mirror.Strategies)
	ran := func() { done++; c.report(done, total) }
	for _, ch := range changes {
		for _, end := range []struct {
			p    timing.Params
			into *[4]float64
		}{{ch.low, &ch.AtMin}, {ch.high, &ch.AtMax}} {
			rows, err := c.rows(ctx, subjects, OnModel(end.p), ran)
			if err != nil {
				return nil, err
			}
			for _, s := range mirror.Strategies {
				end.into[s] = Mean(rows, func(r *Row) float64 { return r.SpeedUp(s) })
			}
		}
		effects = append(effects, ch.Effect)
	}
	return effects, nil
}
