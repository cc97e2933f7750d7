package house_test

import (
	"os/exec"
	"strings"
	"testing"

	"whale/internal/house"
)

const root = "../.."

// perFile are the rules that look at one file at a time.
var perFile = map[string]func(*house.File) []string{
	"imports go down":     house.Imports,
	"the core is pure":    house.Pure,
	"formatted":           house.Format,
	"files stay small":    house.Size,
	"words have no place": house.Words,
}

func TestHouseRules(t *testing.T) {
	files, err := house.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d files below %s: the rules would hold of anything", len(files), root)
	}
	for name, rule := range perFile {
		t.Run(name, func(t *testing.T) {
			for _, f := range files {
				if name == "words have no place" && f.Package() == "internal/house" {
					continue // which has to spell them
				}
				for _, bad := range rule(f) {
					t.Error(bad)
				}
			}
		})
	}
	t.Run("packages are documented", func(t *testing.T) {
		for _, bad := range house.Documented(files) {
			t.Error(bad)
		}
	})
}

func TestVet(t *testing.T) {
	if testing.Short() {
		t.Skip("vets the whole module")
	}
	cmd := exec.Command("go", "vet", "./...")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go vet ./...: %v\n%s", err, out)
	}
}

// TestEachRuleCanFail breaks each rule on made-up files: the report must name the place, and the same file without the
// fault must pass.
func TestEachRuleCanFail(t *testing.T) {
	for _, c := range []struct {
		name string
		rule func(*house.File) []string
		path string
		src  string
		want string // "" : the rule holds
	}{
		{"down", house.Imports, "internal/node/x.go", "package node\n\nimport \"whale/pmem\"\n\nvar _ = pmem.None\n", ""},
		{"up", house.Imports, "internal/plog/x.go", "package plog\n\nimport _ \"whale/internal/store\"\n", "internal/plog/x.go:3: internal/plog is on floor"},
		{"sideways", house.Imports, "fabric/shm/x.go", "package shm\n\nimport _ \"whale/fabric/simfab\"\n", "fabric/shm/x.go:3"},
		{"sideways, in a test", house.Imports, "fabric/shm/x_test.go", "package shm\n\nimport _ \"whale/fabric/simfab\"\n", ""},
		{"the family's own head", house.Imports, "fabric/shm/x.go", "package shm\n\nimport _ \"whale/fabric\"\nimport _ \"whale/fabric/internal/handshake\"\n", ""},
		{"nowhere", house.Imports, "internal/misc/x.go", "package misc\n", "has no floor"},
		{"from nowhere", house.Imports, "internal/node/x.go", "package node\n\nimport _ \"whale/internal/misc\"\n", "which has no floor"},

		{"net", house.Pure, "internal/shard/x.go", "package shard\n\nimport _ \"net\"\n", "x.go:3: the core imports net"},
		{"below os", house.Pure, "internal/replication/whale/x.go", "package whale\n\nimport _ \"os/exec\"\n", "imports os/exec"},
		{"sync", house.Pure, "internal/replication/x.go", "package replication\n\nimport _ \"sync\"\n", "imports sync"},
		{"atomics", house.Pure, "internal/shard/x.go", "package shard\n\nimport _ \"sync/atomic\"\n", ""},
		{"a test", house.Pure, "internal/shard/x_test.go", "package shard\n\nimport _ \"sync\"\n", ""},
		{"outside the core", house.Pure, "internal/node/x.go", "package node\n\nimport _ \"sync\"\n", ""},
		{"a clock", house.Pure, "internal/shard/x.go", "package shard\n\nimport \"time\"\n\nvar x = time.Now()\n", "x.go:5: the core uses time.Now"},
		{"a clock by another name", house.Pure, "internal/shard/x.go", "package shard\n\nimport t \"time\"\n\nvar x *t.Timer\n", "uses time.Timer"},
		{"a hidden clock", house.Pure, "internal/shard/x.go", "package shard\n\nimport . \"time\"\n\nvar x = Now()\n", "without its name"},
		{"durations", house.Pure, "internal/shard/x.go", "package shard\n\nimport \"time\"\n\nvar x = 2 * time.Second\n", ""},
		{"go", house.Pure, "internal/shard/x.go", "package shard\n\nfunc f() { go f() }\n", "x.go:3: the core starts a goroutine"},
		{"chan", house.Pure, "internal/shard/x.go", "package shard\n\nvar c chan int\n", "has a channel"},
		{"send", house.Pure, "internal/shard/x.go", "package shard\n\nfunc f() { c <- 1 }\n", "sends on a channel"},
		{"receive", house.Pure, "internal/shard/x.go", "package shard\n\nfunc f() { <-c }\n", "receives from a channel"},
		{"select", house.Pure, "internal/shard/x.go", "package shard\n\nfunc f() { select {} }\n", "selects"},

		{"unformatted", house.Format, "x.go", "package x\nvar  a int\n", "gofmt"},
		{"formatted", house.Format, "x.go", "package x\n\nvar a int\n", ""},
		{"long", house.Size, "x.go", "package x\n" + strings.Repeat("//\n", house.MaxLines), "801 lines"},
		{"not too long", house.Size, "x.go", "package x\n" + strings.Repeat("//\n", house.MaxLines-1), ""},

		{"unfinished", house.Words, "x.go", "package x\n\n// TODO: later\n", "x.go:3: \"TODO\""},
		{"a ticket", house.Words, "x.go", "package x\n\nvar s = \"see issue #12\"\n", "issue #12"},
		{"somebody's machine", house.Words, "x.go", "package x\n\nvar s = \"/home/jane/x\"\n", "/home/j"},
		{"ordinary words", house.Words, "x.go", "package x\n\n// The task and the issue.\nvar s = \"net/work/x\"\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := house.Parse(c.path, []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(c.rule(f), "\n")
			if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
				t.Errorf("reports %q, want %q", got, c.want)
			}
		})
	}
	t.Run("undocumented", func(t *testing.T) {
		bare, _ := house.Parse("internal/x/x.go", []byte("package x\n"))
		doc, _ := house.Parse("internal/x/doc.go", []byte("// Package x is documented.\npackage x\n"))
		if got := house.Documented([]*house.File{bare}); len(got) != 1 || !strings.Contains(got[0], "internal/x") {
			t.Errorf("an undocumented package: %q", got)
		}
		if got := house.Documented([]*house.File{bare, doc}); len(got) != 0 {
			t.Errorf("a documented one: %q", got)
		}
	})
}
