package timing_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whale/timing"
)

func TestDefaultsAreInRange(t *testing.T) {
	if err := timing.Default().Check(); err != nil {
		t.Error(err)
	}
	names := map[string]bool{}
	for _, a := range timing.All {
		if a.Min >= a.Max || names[a.Name] || a.Help == "" {
			t.Errorf("%+v: a range without width, a name twice, or no help", a)
		}
		names[a.Name] = true
	}
	if len(names) < 40 {
		t.Errorf("only %d parameters are listed", len(names))
	}
}

// TestEveryParameterFromAFile: each can be set to both ends of its range, to nothing beyond, and to no text.
func TestEveryParameterFromAFile(t *testing.T) {
	for _, a := range timing.All {
		section, key, _ := strings.Cut(a.Name, ".")
		parse := func(value string) (timing.Params, error) {
			return timing.Parse("[" + section + "]\n" + key + " = " + value + "\n")
		}
		for _, v := range []float64{a.Min, a.Max} {
			p, err := timing.Parse(only(a, v).Text())
			if err != nil {
				t.Errorf("%s = %v: %v", a.Name, v, err)
			} else if got := *a.Of(&p); got != v {
				t.Errorf("%s = %v was read as %v", a.Name, v, got)
			}
		}
		for _, value := range []string{"-1", "1e30", "nan", "\"text\""} {
			if _, err := parse(value); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s = %s: %v, want an error that names it", a.Name, value, err)
			}
		}
	}
}

// only are the defaults but for one parameter, and for others that it would contradict.
func only(a timing.Param, v float64) timing.Params {
	p := timing.Default()
	*a.Of(&p) = v
	p.Cache.DDIOWays = min(p.Cache.DDIOWays, p.Cache.Ways)
	p.Cache.Ways = max(p.Cache.DDIOWays, p.Cache.Ways)
	return p
}

func TestBadFiles(t *testing.T) {
	for text, want := range map[string]string{
		"[nic]\npipelin = 3\n":                    "nic.pipelin",
		"[nik]\npipeline = 150\n":                 "nik",
		"[nic]\npipeline = 1\n":                   "nic.pipeline = 1: want 80 to 250 ns",
		"[tail]\np99 = 1.05\n":                    "1.1 to 1.6 x, or 1",
		"[cache]\nddio_ways = 8\nways = 4\n":      "cache.ddio_ways = 8 is more than cache.ways = 4",
		"[cpu]\npost_batched = 41\n":              "cpu.post_batched",
		"[memory]\nwrite_queue = 16.5\n":          "whole number of lines",
		"[memory]\ngranule = 100\n":               "memory.granule = 100: want a power of two",
		"[memory]\neadr = 1\n":                    "eadr",
		"[nic\n":                                  "line 2",
		"[nic]\npipeline = 1\n[pcie]\nread = 1\n": "pcie.read",
	} {
		path := filepath.Join(t.TempDir(), "params.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := timing.Load(path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: error %v, want one that names the file and says %q", text, err, want)
		}
	}
	if _, err := timing.Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there is read")
	}
	p, err := timing.Parse("[tail]\np99 = 1\n[memory]\neadr = true\ncxl = true\n[cpu]\npost = 100\n")
	if err != nil || p.Tail.P99 != 1 || !p.Memory.EADR || !p.Memory.CXL || p.CPU.Post != 100 || p.NIC.Pipeline != 150 {
		t.Errorf("good parameters were read as %+v, %v", p, err)
	}
	if _, err := timing.New(timing.Params{}, 0); err == nil {
		t.Error("a model of parameters that are all zero")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(timing.Default().Text())
	f.Add("[memory]\ngranule = 1e300\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := timing.Parse(text)
		if err != nil {
			return
		}
		again, err := timing.Parse(p.Text())
		if err != nil || again != p {
			t.Errorf("%+v is written as a file that reads as %+v, %v", p, again, err)
		}
	})
}
