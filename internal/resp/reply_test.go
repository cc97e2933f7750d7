package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// show prints a reply in a line, for comparing.
func show(r Reply) string {
	switch r.Kind {
	case Array, Set, Push, Map:
		var b strings.Builder
		for _, e := range r.Elems {
			b.WriteString(" " + show(e))
		}
		return fmt.Sprintf("%c(%s)", r.Kind, strings.TrimSpace(b.String()))
	case Null:
		return "null"
	}
	return fmt.Sprintf("%c%q", r.Kind, r.Str)
}

var replies = []struct{ wire, want string }{
	{"+OK\r\n", `+"OK"`},
	{"-ERR no\r\n", `-"ERR no"`},
	{":-12\r\n", `:"-12"`},
	{"$3\r\na\r\n\r\n", `$"a\r\n"`},
	{"$0\r\n\r\n", `$""`},
	{"$-1\r\n", "null"},
	{"*-1\r\n", "null"},
	{"_\r\n", "null"},
	{"*0\r\n", "*()"},
	{"*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", `*(:"1" *($"x"))`},
	{"%1\r\n+a\r\n:1\r\n", `%(+"a" :"1")`},
	{"~1\r\n#t\r\n", `~(#"t")`},
	{">1\r\n#f\r\n", `>(#"f")`},
	{",1.5\r\n", `,"1.5"`},
	{",-inf\r\n", `,"-inf"`},
	{"(123456789012345678901234567890\r\n", `("123456789012345678901234567890"`},
	{"=7\r\ntxt:a b\r\n", `="a b"`},
	{"!5\r\nERR x\r\n", `!"ERR x"`},
	{"|1\r\n+ttl\r\n:10\r\n+OK\r\n", `+"OK"`},
	{"*1\r\n|1\r\n+ttl\r\n*1\r\n:10\r\n$1\r\ny\r\n", `*($"y")`},
}

func TestReplies(t *testing.T) {
	for _, c := range replies {
		buf := []byte(c.wire + ":99\r\n")
		n, err := SkipReply(buf)
		if n != len(c.wire) || err != nil {
			t.Errorf("SkipReply(%q) = %d, %v; want %d", buf, n, err, len(c.wire))
		}
		r, n, err := ParseReply(buf)
		if n != len(c.wire) || err != nil || show(r) != c.want {
			t.Errorf("ParseReply(%q) = %s, %d, %v; want %s, %d", buf, show(r), n, err, c.want, len(c.wire))
		}
		for i := range c.wire {
			if n, err := SkipReply(buf[:i]); n != 0 || err != nil {
				t.Errorf("SkipReply(%q) = %d, %v; want 0: it is incomplete", buf[:i], n, err)
			}
			if _, n, err := ParseReply(buf[:i]); n != 0 || err != nil {
				t.Errorf("ParseReply(%q) = %d, %v; want 0: it is incomplete", buf[:i], n, err)
			}
		}
	}
}

func TestReplyValues(t *testing.T) {
	r, _, err := ParseReply([]byte("*4\r\n:-5\r\n,2.5\r\n#t\r\n-ERR no\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	e := r.Elems
	if e[0].Int != -5 || e[1].Float != 2.5 || e[2].Int != 1 || e[3].Err() == nil || e[3].Err().Error() != "ERR no" || r.Err() != nil {
		t.Errorf("%+v", r)
	}
}

func TestNoReplies(t *testing.T) {
	for _, wire := range []string{"x\r\n", "+a\n", ":\r\n", ":1x\r\n", "$x\r\n", "$-2\r\n", "$+1\r\n", "*99999999999\r\n", "#x\r\n", ",x\r\n", "_x\r\n",
		"=2\r\nab\r\n", "$1\rxa\r\n", strings.Repeat("*1\r\n", maxDepth+5) + ":1\r\n", "$" + strings.Repeat("1", DefaultMaxInline+1)} {
		if r, n, err := ParseReply([]byte(wire)); n != 0 || !errors.Is(err, ErrReply) {
			t.Errorf("ParseReply(%.40q) = %s, %d, %v; want an error", wire, show(r), n, err)
		}
	}
}

func TestReplyReader(t *testing.T) {
	var stream bytes.Buffer
	for _, c := range replies {
		stream.WriteString(c.wire)
	}
	big := strings.Repeat("z", 100_000)
	fmt.Fprintf(&stream, "$%d\r\n%s\r\n", len(big), big)
	rr := NewReplyReader(iotest.OneByteReader(bytes.NewReader(stream.Bytes())))
	for _, c := range replies {
		if r, err := rr.Next(); err != nil || show(r) != c.want {
			t.Fatalf("got %s, %v; want %s", show(r), err, c.want)
		}
	}
	if r, err := rr.Next(); err != nil || string(r.Str) != big {
		t.Fatalf("%d bytes of %d, %v", len(r.Str), len(big), err)
	}
	if _, err := rr.Next(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, err := NewReplyReader(strings.NewReader("$5\r\nab")).Next(); err != io.ErrUnexpectedEOF {
		t.Errorf("inside a reply: %v", err)
	}
}

// TestReplyRoundTrip writes random replies with Writer and reads them back.
func TestReplyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := Writer{Proto: 3}
		var write func(depth int) string
		write = func(depth int) string {
			kind := rapid.SampledFrom([]string{"bulk", "int", "null", "bool", "error", "map", "array", "verbatim"}).Draw(t, "kind")
			if depth > 4 {
				kind = "int"
			}
			switch kind {
			case "bulk":
				b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
				w.Bulk(b)
				return fmt.Sprintf("$%q", b)
			case "int":
				n := rapid.Int64().Draw(t, "n")
				w.Int(n)
				return fmt.Sprintf(`:"%d"`, n)
			case "bool":
				w.Bool(true)
				return `#"t"`
			case "error":
				w.Error("ERR x\ny")
				return `-"ERR x y"`
			case "verbatim":
				w.Verbatim("txt", "text")
				return `="text"`
			case "map", "array":
				n := rapid.IntRange(0, 3).Draw(t, "len")
				open := "*("
				if kind == "map" {
					w.Map(n)
					n, open = 2*n, "%("
				} else {
					w.Array(n)
				}
				var elems []string
				for range n {
					elems = append(elems, write(depth+1))
				}
				return open + strings.Join(elems, " ") + ")"
			}
			w.Null()
			return "null"
		}
		want := write(0)
		r, n, err := ParseReply(w.Buf)
		if err != nil || n != len(w.Buf) || show(r) != want {
			t.Fatalf("%q:\ngot %s, %d, %v\nwant %s", w.Buf, show(r), n, err, want)
		}
		if n, err := SkipReply(w.Buf); n != len(w.Buf) || err != nil {
			t.Fatalf("SkipReply(%q) = %d, %v", w.Buf, n, err)
		}
	})
}

// FuzzReply: neither reader panics or leaves the buffer; what decodes is as long as SkipReply says; a prefix of a reply is
// incomplete or already known to be none.
func FuzzReply(f *testing.F) {
	for _, c := range replies {
		f.Add([]byte(c.wire))
	}
	f.Add([]byte("*2147483647\r\n"))
	f.Add([]byte("%-1\r\n"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		skipped, skipErr := SkipReply(buf)
		_, parsed, parseErr := ParseReply(buf)
		if skipped < 0 || skipped > len(buf) || parsed < 0 || parsed > len(buf) || skipErr != nil && skipped != 0 || parseErr != nil && parsed != 0 {
			t.Fatalf("skipped %d, %v; parsed %d, %v; of %d", skipped, skipErr, parsed, parseErr, len(buf))
		}
		if parsed > 0 && parsed != skipped || parsed == 0 && parseErr == nil && (skipped != 0 || skipErr != nil) || skipErr != nil && parseErr == nil {
			t.Fatalf("skipped %d, %v; parsed %d, %v", skipped, skipErr, parsed, parseErr)
		}
		if parsed > 0 {
			cut := parsed / 2
			if n, err := SkipReply(buf[:cut]); n != 0 || err != nil {
				t.Fatalf("%d of %d bytes: %d, %v", cut, parsed, n, err)
			}
		}
	})
}

func TestSkipReplyDoesNotAllocate(t *testing.T) {
	buf := []byte("*3\r\n$3\r\nabc\r\n:1\r\n%1\r\n+a\r\n_\r\n")
	if allocs := testing.AllocsPerRun(100, func() {
		if n, err := SkipReply(buf); n != len(buf) || err != nil {
			t.Fatal(n, err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkSkipReply(b *testing.B) {
	for name, wire := range map[string]string{"OK": "+OK\r\n", "bulk64": "$64\r\n" + strings.Repeat("x", 64) + "\r\n"} {
		b.Run(name, func(b *testing.B) {
			buf := []byte(wire)
			b.ReportAllocs()
			for b.Loop() {
				if n, _ := SkipReply(buf); n == 0 {
					b.Fatal("incomplete")
				}
			}
		})
	}
}

func BenchmarkAppendCommandSet64(b *testing.B) {
	key, value, set := []byte("key:0000000000123"), make([]byte, 64), []byte("SET")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendCommand(buf[:0], set, key, value)
	}
}
