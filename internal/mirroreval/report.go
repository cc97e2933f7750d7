package mirroreval

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"whale/mirror"
)

// What the paper's abstract says: its two designs against the one with remote commits. Which of the figures belongs to which
// design is not in the abstract; this is how this project reads it.
const (
	PaperOrderedBuffering = 1.8
	PaperDDIODisabled     = 2.9
)

// WriteTable prints a line for each workload and one with the geometric means, and says where the paper's figures lie. effects
// may be empty.
func WriteTable(out io.Writer, rows []Row, effects []Effect) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tthreads\tepochs/tx\tlines/epoch\tnone\tsm-rc\tsm-ob\tsm-dd\tslowdown rc\tob\tdd\tspeed-up ob\tdd\t")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.2f\t", r.Workload, r.Threads, per(r.Shape.Epochs, r.Shape.Transactions), per(r.Shape.Lines, r.Shape.Epochs))
		for _, s := range mirror.Strategies {
			fmt.Fprintf(t, "%s\t", micros(r.Each(s)))
		}
		writeRatios(t, r.Slowdown, r.SpeedUp)
	}
	fmt.Fprintf(t, "geometric mean\t\t\t\t\t\t\t\t")
	slow := func(s mirror.Strategy) float64 { return Mean(rows, func(r *Row) float64 { return r.Slowdown(s) }) }
	fast := func(s mirror.Strategy) float64 { return Mean(rows, func(r *Row) float64 { return r.SpeedUp(s) }) }
	writeRatios(t, slow, fast)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(out, "\nTimes are of one transaction, of its thread. Slowdown: times none. Speed-up: over sm-rc.\n")
	if len(effects) > 0 {
		if err := writeEffects(out, effects); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(out, "\n", verdict(rows, effects))
	return err
}

func writeRatios(t io.Writer, slow, fast func(mirror.Strategy) float64) {
	for _, s := range Mirrored {
		fmt.Fprintf(t, "%.2f\t", slow(s))
	}
	fmt.Fprintf(t, "%.2f\t%.2f\t\n", fast(mirror.OrderedBuffering), fast(mirror.DDIODisabled))
}

func per(n, of int) float64 { return float64(n) / float64(max(1, of)) }

func micros(d time.Duration) string { return fmt.Sprintf("%.2f us", float64(d)/1000) }

// writeEffects prints what each parameter moves, the strongest first; those that move nothing by name.
func writeEffects(out io.Writer, effects []Effect) error {
	sorted := slices.Clone(effects)
	slices.SortStableFunc(sorted, func(a, b Effect) int {
		switch x, y := a.Moves(), b.Moves(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	fmt.Fprint(out, "\nSpeed-up over sm-rc (geometric mean) with one parameter at an end of its range:\n\n")
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "parameter\tfrom\tto\tunit\tsm-ob from\tto\tsm-dd from\tto\t")
	var idle []string
	for i := range sorted {
		e := &sorted[i]
		if e.Moves() < 1.01 {
			idle = append(idle, e.Name)
			continue
		}
		fmt.Fprintf(t, "%s\t%g\t%g\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", e.Name, e.Min, e.Max, e.Unit,
			e.AtMin[mirror.OrderedBuffering], e.AtMax[mirror.OrderedBuffering], e.AtMin[mirror.DDIODisabled], e.AtMax[mirror.DDIODisabled])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(idle) > 0 {
		slices.Sort(idle)
		fmt.Fprintf(out, "\nThese move neither by more than 1%%: %s.\n", strings.Join(idle, ", "))
	}
	return nil
}

// verdict says in words what was found, and where the paper's figures lie.
func verdict(rows []Row, effects []Effect) string {
	var b strings.Builder
	for _, c := range []struct {
		s     mirror.Strategy
		paper float64
	}{{mirror.OrderedBuffering, PaperOrderedBuffering}, {mirror.DDIODisabled, PaperDDIODisabled}} {
		mean := Mean(rows, func(r *Row) float64 { return r.SpeedUp(c.s) })
		low, high := mean, mean
		each := [2]float64{mean, mean}
		for i := range rows {
			each[0], each[1] = min(each[0], rows[i].SpeedUp(c.s)), max(each[1], rows[i].SpeedUp(c.s))
		}
		for i := range effects {
			low, high = min(low, effects[i].AtMin[c.s], effects[i].AtMax[c.s]), max(high, effects[i].AtMin[c.s], effects[i].AtMax[c.s])
		}
		fmt.Fprintf(&b, "%v is %.2f times as fast as sm-rc in the geometric mean; single workloads lie from %.2f to %.2f", c.s, mean, each[0], each[1])
		if len(effects) > 0 {
			fmt.Fprintf(&b, ", and the mean from %.2f to %.2f over the parameters' ranges, one at a time", low, high)
		}
		where := "is inside the range of what was found"
		switch {
		case c.paper < min(low, each[0]):
			where = "is less than anything found here"
		case c.paper > max(high, each[1]):
			where = "is more than anything found here"
		}
		fmt.Fprintf(&b, ".\nThe paper's %.1f %s, and ", c.paper, where)
		if mean >= c.paper {
			fmt.Fprintf(&b, "%.2f times lower than the mean.\n", mean/c.paper)
		} else {
			fmt.Fprintf(&b, "%.2f times higher than the mean.\n", c.paper/mean)
		}
	}
	return b.String()
}

// WriteCSV writes a line for each workload and one with the geometric means.
func WriteCSV(out io.Writer, rows []Row) error {
	w := csv.NewWriter(out)
	w.Write([]string{"workload", "threads", "transactions", "epochs", "lines", "bytes", "none_ns", "sm_rc_ns", "sm_ob_ns", "sm_dd_ns",
		"slowdown_sm_rc", "slowdown_sm_ob", "slowdown_sm_dd", "speedup_sm_ob", "speedup_sm_dd"})
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', 4, 64) }
	for i := range rows {
		r := &rows[i]
		line := []string{r.Workload, strconv.Itoa(r.Threads), strconv.Itoa(r.Shape.Transactions), strconv.Itoa(r.Shape.Epochs),
			strconv.Itoa(r.Shape.Lines), strconv.FormatUint(r.Shape.Bytes, 10)}
		for _, s := range mirror.Strategies {
			line = append(line, strconv.FormatInt(int64(r.Each(s)), 10))
		}
		for _, s := range Mirrored {
			line = append(line, number(r.Slowdown(s)))
		}
		w.Write(append(line, number(r.SpeedUp(mirror.OrderedBuffering)), number(r.SpeedUp(mirror.DDIODisabled))))
	}
	mean := append([]string{"geometric mean"}, make([]string, 9)...)
	for _, s := range Mirrored {
		mean = append(mean, number(Mean(rows, func(r *Row) float64 { return r.Slowdown(s) })))
	}
	for _, s := range Mirrored[1:] {
		mean = append(mean, number(Mean(rows, func(r *Row) float64 { return r.SpeedUp(s) })))
	}
	w.Write(mean)
	w.Flush()
	return w.Error()
}
