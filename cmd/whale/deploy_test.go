//go:build linux

package main

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whale/internal/command"
	"whale/internal/config"
	"whale/internal/node"
)

// unitLines are the settings of the systemd unit.
func unitLines(t *testing.T) map[string]string {
	f, err := os.Open("../../deploy/whale.service")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	have := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), "="); ok && !strings.HasPrefix(name, "#") {
			have[name] = value
		}
	}
	return have
}

// TestUnit: what the systemd unit says of the program is so.
func TestUnit(t *testing.T) {
	unit := unitLines(t)
	if unit["Type"] != "notify" || unit["RestartPreventExitStatus"] != strconv.Itoa(node.ExitPermanent) {
		t.Errorf("%v", unit)
	}
	args := strings.Fields(unit["ExecStart"])
	cmd, rest, err := rootCmd().Find(args[1:])
	if err != nil || cmd.Name() != "serve" {
		t.Fatalf("%q is not whale serve: %v", args, err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Error(err)
	}
}

// TestDockerfile: the variables are settings, and the warning stands at the top.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, key := range config.Keys() {
		known[key.Env] = true
	}
	for line := range strings.Lines(string(text)) {
		if env, ok := strings.CutPrefix(line, "ENV "); ok {
			if name, _, _ := strings.Cut(env, "="); !known[name] {
				t.Errorf("%s is no setting", name)
			}
		}
	}
	if head, _, _ := strings.Cut(string(text), "FROM"); !strings.Contains(head, "WARNING: /dev/shm") {
		t.Error("the warning about a small /dev/shm is gone")
	}
}

// TestOperationsPage: the table of settings in docs/operations.md is that of the struct.
func TestOperationsPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && strings.HasPrefix(line, "| `--") {
			rows[strings.Trim(cells[1], " `-")] = line
		}
	}
	for _, key := range config.Keys() {
		if want := settingRow(key); rows[key.Name] != want {
			t.Errorf("docs/operations.md needs the line\n%shas\n%s", want, rows[key.Name])
		}
		delete(rows, key.Name)
	}
	for name := range rows {
		t.Errorf("docs/operations.md describes --%s, which there is not", name)
	}
}

func settingRow(key config.Key) string {
	def := "`" + key.Default + "`"
	if key.Default == "" {
		def = ""
	}
	return "| `--" + key.Name + "` | " + key.Type + " | " + def + " | " + strings.ReplaceAll(key.Help, "|", "\\|") + " |\n"
}

// TestReadmeListsTheCommands: all that there are, and no other.
func TestReadmeListsTheCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, cmd := range command.All() {
		names = append(names, strings.ToUpper(cmd.Name))
	}
	slices.Sort(names)
	if want := "\nCommands: " + strings.Join(names, " ") + ".\n"; !strings.Contains(string(text), want) {
		t.Errorf("README.md needs the line%s", want)
	}
}
