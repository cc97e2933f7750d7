package mirroreval

import (
	"encoding/csv"
	"fmt"
	"io"
	"math"
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

// WriteTable prints a line for each workload and one with the geometric means for each group, and says where the paper's figures
// lie among those of the first group. effects, of that group, may be empty.
func WriteTable(out io.Writer, rows []Row, effects []Effect) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tthreads\tepochs/tx\tlines/epoch\tnone\tsm-rc\tsm-ob\tsm-dd\tslowdown rc\tob\tdd\tspeed-up ob\tdd\t")
	for _, group := range grouped(rows) {
		for i := range group {
			r := &group[i]
			fmt.Fprintf(t, "%s\t%d\t%.1f\t%.2f\t", r.Workload, r.Threads, r.Shape.Mean, r.Shape.Width)
			for _, s := range mirror.Strategies {
				fmt.Fprintf(t, "%s\t", micros(r.Each(s)))
			}
			writeRatios(t, r.Slowdown, r.SpeedUp)
		}
		fmt.Fprintf(t, "%s, geometric mean\t\t\t\t\t\t\t\t", group[0].Group)
		writeRatios(t, means(group, (*Row).Slowdown), means(group, (*Row).SpeedUp))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(out, "\nTimes are of one transaction, of its thread. Slowdown: times none. Speed-up: over sm-rc. -: not to be had here.\n")
	if len(effects) > 0 {
		if err := writeEffects(out, effects); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(out, "\n", verdict(grouped(rows)[0], effects))
	return err
}

// grouped are the rows of each group: they stand together.
func grouped(rows []Row) (groups [][]Row) {
	for start, i := 0, 1; i <= len(rows); i++ {
		if i == len(rows) || rows[i].Group != rows[start].Group {
			groups = append(groups, rows[start:i])
			start = i
		}
	}
	return groups
}

// means are the geometric means of a ratio by strategy.
func means(rows []Row, of func(*Row, mirror.Strategy) float64) func(mirror.Strategy) float64 {
	return func(s mirror.Strategy) float64 { return Mean(rows, func(r *Row) float64 { return of(r, s) }) }
}

func writeRatios(t io.Writer, slow, fast func(mirror.Strategy) float64) {
	for _, s := range Mirrored {
		fmt.Fprintf(t, "%s\t", number(slow(s), 2))
	}
	fmt.Fprintf(t, "%s\t%s\t\n", number(fast(mirror.OrderedBuffering), 2), number(fast(mirror.DDIODisabled), 2))
}

// number is a ratio with so many digits; "-": there is none.
func number(f float64, digits int) string {
	if math.IsNaN(f) {
		return "-"
	}
	return strconv.FormatFloat(f, 'f', digits, 64)
}

func micros(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return number(float64(d)/1000, 2) + " us"
}

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
		mean := means(rows, (*Row).SpeedUp)(c.s)
		if math.IsNaN(mean) {
			fmt.Fprintf(&b, "%v is not to be had here for all workloads, so nothing can be said beside the paper's %.1f.\n", c.s, c.paper)
			continue
		}
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

// WriteCSV writes a line for each workload and one with the geometric means for each group. What is not to be had is empty.
func WriteCSV(out io.Writer, rows []Row) error {
	w := csv.NewWriter(out)
	w.Write([]string{"group", "workload", "threads", "transactions", "epochs_mean", "epochs_p50", "lines_an_epoch", "bytes", "none_ns", "sm_rc_ns",
		"sm_ob_ns", "sm_dd_ns", "slowdown_sm_rc", "slowdown_sm_ob", "slowdown_sm_dd", "speedup_sm_ob", "speedup_sm_dd"})
	ratios := func(slow, fast func(mirror.Strategy) float64) (all []string) {
		for _, s := range Mirrored {
			all = append(all, number(slow(s), 4))
		}
		for _, s := range Mirrored[1:] {
			all = append(all, number(fast(s), 4))
		}
		return all
	}
	write := func(line []string) {
		for i := range line {
			line[i] = strings.TrimPrefix(line[i], "-")
		}
		w.Write(line)
	}
	for _, group := range grouped(rows) {
		for i := range group {
			r := &group[i]
			line := []string{r.Group, r.Workload, strconv.Itoa(r.Threads), strconv.Itoa(r.Transactions), number(r.Shape.Mean, 2), strconv.Itoa(r.Shape.P50),
				number(r.Shape.Width, 3), number(r.Shape.Bytes, 1)}
			for _, s := range mirror.Strategies {
				each := "-"
				if r.Time[s] > 0 {
					each = strconv.FormatInt(int64(r.Each(s)), 10)
				}
				line = append(line, each)
			}
			write(append(line, ratios(r.Slowdown, r.SpeedUp)...))
		}
		mean := append([]string{group[0].Group, "geometric mean"}, make([]string, 10)...)
		write(append(mean, ratios(means(group, (*Row).Slowdown), means(group, (*Row).SpeedUp))...))
	}
	w.Flush()
	return w.Error()
}
