//go:build linux

package eval

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Comparison is what Compare measured.
type Comparison struct {
	Values, Conns, Pipelines []int
	Network                  bool                          // as in [Compare]
	samples                  map[place]map[Series][]Sample // a sample a round
}

func (c *Comparison) add(p place, s Series, sample Sample) {
	if c.samples[p] == nil {
		c.samples[p] = map[Series][]Sample{}
	}
	c.samples[p][s] = append(c.samples[p][s], sample)
}

// places are those that were measured, in the order of the report.
func (c *Comparison) places() []place {
	var all []place
	for _, v := range c.Values {
		for _, p := range c.Pipelines {
			for _, n := range c.Conns {
				if pl := (place{v, n, p}); c.samples[pl] != nil {
					all = append(all, pl)
				}
			}
		}
	}
	return all
}

// Rows are all samples, a row each, in the order of their rounds.
func (c *Comparison) Rows() []Row {
	var rows []Row
	for _, p := range c.places() {
		for _, s := range seriesOrder {
			for _, sample := range c.samples[p][s] {
				rows = append(rows, Row{Where: string(s), Cell: Cell{s.op(), p.Value, p.Conns, p.Pipeline}, Sample: sample})
			}
		}
	}
	return rows
}

// median of what pick takes from the samples of a series, and the extremes; ok is false if nothing was measured.
func spread[T cmp.Ordered](c *Comparison, p place, s Series, pick func(Sample) T) (median, lo, hi T, ok bool) {
	samples := c.samples[p][s]
	if len(samples) == 0 {
		return median, lo, hi, false
	}
	all := make([]T, len(samples))
	for i, sample := range samples {
		all[i] = pick(sample)
	}
	slices.Sort(all)
	return all[(len(all)-1)/2], all[0], all[len(all)-1], true
}

func rate(s Sample) float64      { return s.Rate }
func p50(s Sample) time.Duration { return s.P50 }
func p99(s Sample) time.Duration { return s.P99 }

// Write prints the medians with their spread, the ratios of the medians, and how they stand against the targets.
func (c *Comparison) Write(w io.Writer) error {
	fmt.Fprintln(w, "Medians of the rounds; rates in operations a second (lowest..highest), latencies in microseconds. Closed loop: see the")
	fmt.Fprintln(w, "manual of the command. The ratio is Whale's rate to that of redis SET, asynchronous, or of redis GET.")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "value\tconns\tpipeline\twhat\trate\tspread\tratio\tp50\tp99\tp99.9\t")
	for _, p := range c.places() {
		for _, s := range seriesOrder {
			m, lo, hi, ok := spread(c, p, s, rate)
			if !ok {
				continue
			}
			base := RedisSet
			if s.op() == Get {
				base = RedisGet
			}
			ratio := "-"
			if b, _, _, ok := spread(c, p, base, rate); ok && b > 0 {
				ratio = fmt.Sprintf("%.2f", m/b)
			}
			l50, _, _, _ := spread(c, p, s, p50)
			l99, _, _, _ := spread(c, p, s, p99)
			l999, _, _, _ := spread(c, p, s, func(s Sample) time.Duration { return s.P999 })
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%.0f\t(%.0f..%.0f)\t%s\t%s\t%s\t%s\t\n", bytesText(uint64(p.Value)), p.Conns, p.Pipeline, s,
				m, lo, hi, ratio, micros(l50), micros(l99), micros(l999))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return c.writeTargets(w)
}

func (c *Comparison) writeTargets(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "target\twanted\tmeasured\t")
	missed := 0
	targets := c.Targets()
	for _, g := range targets {
		verdict, sign := "met", ">="
		if g.AtMost {
			sign = "<="
		}
		if !g.Met() {
			verdict = "MISSED"
			missed++
		}
		fmt.Fprintf(t, "%s\t%s %.2f\t%.2f\t%s\n", g.Name, sign, g.Want, g.Got, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d targets met\n", len(targets)-missed, len(targets))
	return err
}

// Target is a ratio of two medians that is wanted.
type Target struct {
	Name      string
	Want, Got float64
	AtMost    bool // Got must not exceed Want; otherwise it must reach it
}

// Met says whether it is reached.
func (t Target) Met() bool {
	if t.AtMost {
		return t.Got <= t.Want
	}
	return t.Got >= t.Want
}

// Targets are those that the measured cells allow to judge.
func (c *Comparison) Targets() []Target {
	var out []Target
	for _, p := range c.places() {
		add := func(what string, pick func(Sample) float64, a, b Series, want float64, atMost bool) {
			x, _, _, ok := spread(c, p, a, pick)
			y, _, _, ok2 := spread(c, p, b, pick)
			if !ok || !ok2 || y == 0 {
				return
			}
			name := fmt.Sprintf("%s, %d conn, pipeline %d: %s of %s to %s", bytesText(uint64(p.Value)), p.Conns, p.Pipeline, what, a, b)
			out = append(out, Target{Name: name, Want: want, Got: x / y, AtMost: atMost})
		}
		micros50 := func(s Sample) float64 { return float64(s.P50) }
		micros99 := func(s Sample) float64 { return float64(s.P99) }
		small := p.Value <= 64
		switch {
		case c.Network: // shared memory is not measured: what is wanted is to be no slower than who promises less
			if p.Pipeline == 1 && p.Conns > 1 {
				add("rate", rate, WhaleSet, RedisSetWait, 1, false)
				add("p99", micros99, WhaleSet, RedisSetWait, 1, true)
			}
			continue
		case p.Pipeline == 1 && p.Conns > 1:
			add("rate", rate, WhaleSet, RedisSet, 1, false)
			add("rate", rate, WhaleSet, RedisSetWait, 2, false)
			add("p99", micros99, WhaleSet, RedisSetWait, 1, true)
		case p.Pipeline == 1:
			add("p50", micros50, WhaleSet, RedisSetWait, 0.5, true)
		case small:
			add("rate", rate, WhaleSet, RedisSet, 1.5, false)
		default:
			add("rate", rate, WhaleSet, RedisSet, 0.8, false)
		}
		if p.Pipeline == 1 || small {
			add("rate", rate, WhaleGet, RedisGet, 1, false)
			add("rate", rate, WhaleBackup, RedisGet, 1, false)
		}
	}
	return out
}
