// Checks a log with golang.org/x/mod/sumdb, which is where the formats come from.
//
// Reads one job from standard input and writes one verdict a line: "ok" or what was refused. Tiles are read from files.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type job struct {
	Key   string
	Cases []struct {
		Note        string // a checkpoint
		Leaf        string // base64
		Index       int64
		Inclusion   []string
		OldSize     int64
		OldRoot     string
		Consistency []string
		Tiles       string // directory; the proofs are then made from the tiles
	}
}

func fail(problem string) { panic(fmt.Errorf("%s", problem)) }

func hash(text string) (h tlog.Hash) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || copy(h[:], data) != len(h) {
		fail("no hash: " + text)
	}
	return h
}

func hashes(texts []string) (all []tlog.Hash) {
	for _, text := range texts {
		all = append(all, hash(text))
	}
	return all
}

type directory string

func (d directory) Height() int { return 8 }

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1) // of that height are all tiles of C2SP
		data, err := os.ReadFile(filepath.Join(string(d), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func main() {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		fail(err.Error())
	}
	verifier, err := note.NewVerifier(j.Key)
	if err != nil {
		fail(err.Error())
	}
	for i := range j.Cases {
		fmt.Println(verdict(j, i, verifier))
	}
}

func verdict(j job, i int, verifier note.Verifier) (said string) {
	defer func() {
		if problem := recover(); problem != nil {
			said = fmt.Sprint(problem)
		}
	}()
	c := j.Cases[i]
	opened, err := note.Open([]byte(c.Note), note.VerifierList(verifier))
	if err != nil {
		return "note: " + err.Error()
	}
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		return "origin: " + lines[0]
	}
	var tree tlog.Tree
	if _, err := fmt.Sscan(lines[1], &tree.N); err != nil {
		return "size: " + lines[1]
	}
	tree.Hash = hash(lines[2])
	leaf, err := base64.StdEncoding.DecodeString(c.Leaf)
	if err != nil {
		return "leaf: " + err.Error()
	}
	inclusion, consistency := hashes(c.Inclusion), hashes(c.Consistency)
	if c.Tiles != "" {
		reader := tlog.TileHashReader(tree, directory(c.Tiles))
		if inclusion, err = tlog.ProveRecord(tree.N, c.Index, reader); err != nil {
			return "tiles: " + err.Error()
		}
		if consistency, err = tlog.ProveTree(tree.N, c.OldSize, reader); err != nil {
			return "tiles: " + err.Error()
		}
	}
	if err := tlog.CheckRecord(inclusion, tree.N, tree.Hash, c.Index, tlog.RecordHash(leaf)); err != nil {
		return "inclusion: " + err.Error()
	}
	if err := tlog.CheckTree(consistency, tree.N, tree.Hash, c.OldSize, hash(c.OldRoot)); err != nil {
		return "consistency: " + err.Error()
	}
	return "ok"
}
