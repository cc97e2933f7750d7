package resp

import (
	"math"
	"testing"
)

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		name  string
		write func(*Writer)
		resp2 string
		resp3 string // empty: the same
	}{
		{"OK", (*Writer).OK, "+OK\r\n", ""},
		{"status", func(w *Writer) { w.Status("PONG") }, "+PONG\r\n", ""},
		{"error", func(w *Writer) { w.Error("ERR no") }, "-ERR no\r\n", ""},
		{"error with line ends", func(w *Writer) { w.Error("ERR a\r\nb\n") }, "-ERR a  b\r\n", ""},
		{"integer", func(w *Writer) { w.Int(7); w.Int(-7); w.Int(10) }, ":7\r\n:-7\r\n:10\r\n", ""},
		{"extreme integer", func(w *Writer) { w.Int(math.MinInt64); w.Int(math.MaxInt64) }, ":-9223372036854775808\r\n:9223372036854775807\r\n", ""},
		{"bulk", func(w *Writer) { w.Bulk([]byte("a\r\n")) }, "$3\r\na\r\n\r\n", ""},
		{"empty bulk", func(w *Writer) { w.Bulk(nil) }, "$0\r\n\r\n", ""},
		{"bulk string", func(w *Writer) { w.BulkString("abc") }, "$3\r\nabc\r\n", ""},
		{"bulk integer", func(w *Writer) { w.BulkInt(-12) }, "$3\r\n-12\r\n", ""},
		{"null", (*Writer).Null, "$-1\r\n", "_\r\n"},
		{"null array", (*Writer).NullArray, "*-1\r\n", "_\r\n"},
		{"array", func(w *Writer) { w.Array(12) }, "*12\r\n", ""},
		{"map", func(w *Writer) { w.Map(2) }, "*4\r\n", "%2\r\n"},
		{"set", func(w *Writer) { w.Set(2) }, "*2\r\n", "~2\r\n"},
		{"push", func(w *Writer) { w.Push(2) }, "*2\r\n", ">2\r\n"},
		{"true", func(w *Writer) { w.Bool(true) }, ":1\r\n", "#t\r\n"},
		{"false", func(w *Writer) { w.Bool(false) }, ":0\r\n", "#f\r\n"},
		{"double", func(w *Writer) { w.Double(3) }, "$1\r\n3\r\n", ",3\r\n"},
		{"double in full", func(w *Writer) { w.Double(0.1) }, "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n"},
		{"large double", func(w *Writer) { w.Double(1e17) }, "$5\r\n1e+17\r\n", ",1e+17\r\n"},
		{"double, not too large", func(w *Writer) { w.Double(1e16) }, "$17\r\n10000000000000000\r\n", ",10000000000000000\r\n"},
		{"infinities", func(w *Writer) { w.Double(math.Inf(1)); w.Double(math.Inf(-1)) }, "$3\r\ninf\r\n$4\r\n-inf\r\n", ",inf\r\n,-inf\r\n"},
		{"no number", func(w *Writer) { w.Double(math.NaN()) }, "$3\r\nnan\r\n", ",nan\r\n"},
		{"verbatim", func(w *Writer) { w.Verbatim("txt", "a b") }, "$3\r\na b\r\n", "=7\r\ntxt:a b\r\n"},
		{"raw", func(w *Writer) { w.Raw([]byte(":1\r\n")) }, ":1\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.resp3 == "" {
				c.resp3 = c.resp2
			}
			for proto, want := range map[int]string{0: c.resp2, 2: c.resp2, 3: c.resp3} {
				w := Writer{Proto: proto, Buf: []byte("before")}
				c.write(&w)
				if got := string(w.Buf); got != "before"+want {
					t.Errorf("version %d: %q, want %q", proto, got, "before"+want)
				}
			}
		})
	}
}

func TestWriterDoesNotAllocate(t *testing.T) {
	w := Writer{Proto: 3, Buf: make([]byte, 0, 4096)}
	value := make([]byte, 64)
	if allocs := testing.AllocsPerRun(100, func() {
		w.Buf = w.Buf[:0]
		w.OK()
		w.Status("PONG")
		w.Error("ERR no\r\n")
		w.Int(1 << 40)
		w.Bulk(value)
		w.BulkInt(1 << 40)
		w.Null()
		w.Map(100)
		w.Double(0.1)
		w.Verbatim("txt", "text")
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkWriterBulk64(b *testing.B) {
	w := Writer{Buf: make([]byte, 0, 4096)}
	value := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if len(w.Buf) > 4000 {
			w.Buf = w.Buf[:0]
		}
		w.Bulk(value)
	}
}
