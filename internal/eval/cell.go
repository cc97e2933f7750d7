//go:build linux

package eval

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// Cell is one place in the matrix of measurements.
type Cell struct {
	Op       Op
	Value    int // bytes
	Conns    int
	Pipeline int
}

func (c Cell) String() string {
	return fmt.Sprintf("%s %s, %d conn, pipeline %d", c.Op, bytesText(uint64(c.Value)), c.Conns, c.Pipeline)
}

// Matrix is every combination, values outermost, so that cells of one value follow each other.
func Matrix(ops []Op, values, conns, pipelines []int) []Cell {
	var cells []Cell
	for _, v := range values {
		for _, p := range pipelines {
			for _, c := range conns {
				for _, o := range ops {
					cells = append(cells, Cell{Op: o, Value: v, Conns: c, Pipeline: p})
				}
			}
		}
	}
	return cells
}

// Sample is what one run of a cell measured.
type Sample struct {
	Rate           float64 // operations a second
	P50, P99, P999 time.Duration
	Max            time.Duration
	Ops            uint64
}

// SampleOf takes the figures out of a result.
func SampleOf(r *Result) Sample {
	return Sample{
		Rate: r.Rate(), P50: r.Quantile(50), P99: r.Quantile(99), P999: r.Quantile(99.9),
		Max: time.Duration(r.Latency.Max()), Ops: r.Ops,
	}
}

// Row is a cell measured somewhere.
type Row struct {
	Where string
	Cell
	Sample
}

// WriteTable prints rows with aligned columns.
func WriteTable(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "where\top\tvalue\tconns\tpipeline\tops/s\tp50 us\tp99 us\tp99.9 us\tmax us\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%.0f\t%s\t%s\t%s\t%s\t\n", r.Where, r.Op, bytesText(uint64(r.Value)), r.Conns, r.Pipeline,
			r.Rate, micros(r.P50), micros(r.P99), micros(r.P999), micros(r.Max))
	}
	return t.Flush()
}

// WriteCSV prints rows with a header, times in microseconds.
func WriteCSV(w io.Writer, rows []Row) error {
	c := csv.NewWriter(w)
	c.Write([]string{"where", "op", "value_bytes", "conns", "pipeline", "ops", "ops_per_s", "p50_us", "p99_us", "p999_us", "max_us"})
	for _, r := range rows {
		c.Write([]string{
			r.Where, r.Op.String(), strconv.Itoa(r.Value), strconv.Itoa(r.Conns), strconv.Itoa(r.Pipeline),
			strconv.FormatUint(r.Ops, 10), strconv.FormatFloat(r.Rate, 'f', 1, 64), micros(r.P50), micros(r.P99), micros(r.P999), micros(r.Max),
		})
	}
	c.Flush()
	return c.Error()
}

func micros(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Microsecond), 'f', 1, 64)
}

// bytesText is a size for people: 64 B, 4 KiB, 1.5 GiB.
func bytesText(n uint64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return fmt.Sprintf("%.4g %ciB", f, units[u])
}
