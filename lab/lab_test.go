//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"whale/lab/steps"
)

// entry is what the reader below finds.
type entry struct {
	name, content string
	mode          uint64
}

// unpack reads an archive by the kernel's description: a header of 110 bytes, the name, the content, each filled up to
// four bytes.
func unpack(t *testing.T, b []byte) (all []entry) {
	t.Helper()
	for at := 0; ; {
		if at+110 > len(b) || string(b[at:at+6]) != "070701" {
			t.Fatalf("no header at %d of %d: %.20q", at, len(b), b[at:])
		}
		field := func(i int) uint64 {
			v, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		size, nameSize := int(field(6)), int(field(11))
		name := string(b[at+110 : at+110+nameSize])
		if !strings.HasSuffix(name, "\x00") {
			t.Fatalf("the name %q has no end", name)
		}
		content := (at + 110 + nameSize + 3) &^ 3
		e := entry{name[:nameSize-1], string(b[content : content+size]), field(1)}
		at = (content + size + 3) &^ 3
		if e.name == "TRAILER!!!" {
			if at != len(b) {
				t.Errorf("%d bytes behind the end", len(b)-at)
			}
			return all
		}
		all = append(all, e)
	}
}

func TestArchive(t *testing.T) {
	from := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(from, []byte("four"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := newCPIO(&b)
	c.bytes("usr/bin/a", 0o644, []byte("12345"))
	c.bytes("usr/bin/abc", 0o600, nil)
	c.file("usr/tool", from)
	c.link("bin", "usr/bin")
	c.dir("usr")
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{"usr", "", 0o040755}, {"usr/bin", "", 0o040755}, {"usr/bin/a", "12345", 0o100644}, {"usr/bin/abc", "", 0o100600},
		{"usr/tool", "four", 0o100755}, {"bin", "usr/bin", 0o120777},
	}
	if got := unpack(t, b.Bytes()); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nexpected\n%v", got, want)
	}
	c = newCPIO(&b)
	c.file("none", from+".not")
	if err := c.close(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A run is good when each step that was wanted has ended well and the guest has come to its end; whatever is missing, or was
// said of another step, makes it bad.
func TestVerdict(t *testing.T) {
	wanted := steps.All[:2]
	begin := func(i int) steps.Event { return steps.Event{Kind: steps.Begin, Step: wanted[i].Name} }
	end := func(i int) steps.Event { return steps.Event{Kind: steps.End, Step: wanted[i].Name} }
	failed := end(1)
	failed.Failed, failed.Text = true, "exit status 7"
	done := steps.Event{Kind: steps.Done}
	line := steps.Event{Kind: steps.Line, Step: wanted[1].Name, Text: "what it printed"}
	for name, c := range map[string]struct {
		events []steps.Event
		boot   error
		want   []string // in the error; none: good
		shown  string   // in the text
	}{
		"good":                    {[]steps.Event{begin(0), end(0), begin(1), line, end(1), done}, nil, nil, "ok "},
		"failed":                  {[]steps.Event{begin(0), end(0), begin(1), line, failed, done}, nil, []string{wanted[1].Name}, "what it printed"},
		"no end of the guest":     {[]steps.Event{begin(0), end(0), begin(1), end(1)}, nil, []string{"end"}, "console says"},
		"no end of a step":        {[]steps.Event{begin(0), end(0), begin(1), line}, nil, []string{wanted[1].Name}, "what it printed"},
		"a step was left out":     {[]steps.Event{begin(0), end(0), done}, nil, []string{wanted[1].Name}, "NOT RUN"},
		"nothing happened":        {nil, nil, []string{wanted[0].Name, wanted[1].Name}, "console says"},
		"the machine ended badly": {[]steps.Event{begin(0), end(0), begin(1), end(1), done}, errors.New("killed"), []string{"killed"}, "ok "},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := newReport(&out, wanted, false)
			for _, e := range c.events {
				r.event(e)
			}
			err := r.finish("console says", c.boot)
			if (err == nil) != (c.want == nil) {
				t.Errorf("%v", err)
			}
			for _, w := range c.want {
				if err != nil && !strings.Contains(err.Error(), w) {
					t.Errorf("%v: does not say %q", err, w)
				}
			}
			if !strings.Contains(out.String(), c.shown) {
				t.Errorf("does not show %q:\n%s", c.shown, out.String())
			}
		})
	}
}

func TestChoose(t *testing.T) {
	all, err := choose(nil)
	if err != nil || len(all) != len(steps.All) {
		t.Errorf("%d steps, %v", len(all), err)
	}
	some, err := choose([]string{"verbs", "devices"})
	if err != nil || len(some) != 2 || some[0].Name != "devices" || some[1].Name != "verbs" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := choose([]string{"nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") || !strings.Contains(err.Error(), "whale-verbs") {
		t.Errorf("%v", err)
	}
}

// Each program that a step needs is built for it, and each is needed by some step.
func TestProgramsAndStepsKnowEachOther(t *testing.T) {
	for name, p := range programs {
		for _, s := range p.steps {
			if step, ok := steps.Find(s); !ok || p.verbs && !step.Verbs {
				t.Errorf("%s is for step %q: %+v", name, s, step)
			}
		}
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := missing([]tool{{"qemu-system-x86_64", "qemu-system-x86"}, {"xz", "xz-utils"}})
	if err == nil || !strings.Contains(err.Error(), "qemu-system-x86_64 (Debian's package qemu-system-x86)") || !strings.Contains(err.Error(), "xz-utils") {
		t.Errorf("%v", err)
	}
	if err := missing(nil); err != nil {
		t.Error(err)
	}
}

func TestDependenciesOfAFileThatIsNoModule(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range [][]byte{self, []byte("no ELF"), nil} {
		if names, err := dependencies(image); err == nil {
			t.Errorf("%v", names)
		}
	}
}
