/*
 * What sentiment.c and train.c share: the movie reviews of data/ as rows of tokens, with the words and tokens that
 * data/train_keras.py gives them.
 */
#ifndef REVIEWS_H
#define REVIEWS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DATA_DIR
#define DATA_DIR "data"
#endif

enum { STEPS = 80, PADDING = 0, UNKNOWN = 1 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* Room for `count` elements: realloc that ends the program rather than failing. */
static void *resize(void *old, size_t count, size_t size)
{
    void *memory = count <= SIZE_MAX / size ? realloc(old, count * size) : NULL;
    if (memory == NULL)
        fail("memory", "there is not enough");
    return memory;
}

static FILE *open_data(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(path, "cannot be read");
    return file;
}

/* The next line without its line break, in a buffer that grows with it; false at the end. */
static bool read_line(FILE *file, char **line, size_t *capacity)
{
    size_t length = 0;
    do {
        if (*capacity - length < 2) {
            *capacity = *capacity == 0 ? 256 : 2 * *capacity;
            *line = resize(*line, *capacity, 1);
        }
        if (fgets(*line + length, (int)(*capacity - length), file) == NULL)
            break;
        length += strlen(*line + length);
    } while ((*line)[length - 1] != '\n');
    if (length == 0 || ferror(file)) {
        if (!feof(file))
            fail("a line", "cannot be read");
        return false;
    }
    if (length > 0 && (*line)[length - 1] == '\n')
        (*line)[--length] = '\0';
    if (length > 0 && (*line)[length - 1] == '\r')
        (*line)[--length] = '\0';
    return true;
}

/* --- words and tokens --- */

typedef struct {
    char *word;
    int32_t token;
} entry;

typedef struct {
    entry *entries; /* sorted by word */
    size_t count;
} vocabulary;

static int compare_entries(const void *left, const void *right)
{
    return strcmp(((const entry *)left)->word, ((const entry *)right)->word);
}

/* Line i, counted from 0, is the word of token i. */
static vocabulary load_vocabulary(void)
{
    const char *path = DATA_DIR "/vocabulary.txt";
    vocabulary words = {NULL, 0};
    FILE *file = open_data(path);
    char *line = NULL;
    size_t capacity = 0, room = 0;

    while (read_line(file, &line, &capacity)) {
        if (words.count == room) {
            room = room == 0 ? 1024 : 2 * room;
            words.entries = resize(words.entries, room, sizeof *words.entries);
        }
        words.entries[words.count].word = resize(NULL, strlen(line) + 1, 1);
        strcpy(words.entries[words.count].word, line);
        words.entries[words.count].token = (int32_t)words.count;
        words.count++;
    }
    free(line);
    fclose(file);
    if (words.count == 0)
        fail(path, "no words");
    qsort(words.entries, words.count, sizeof *words.entries, compare_entries);
    return words;
}

static void free_vocabulary(vocabulary *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->entries[i].word);
    free(words->entries);
}

static int32_t token_of(const vocabulary *words, char *word)
{
    const entry wanted = {word, UNKNOWN};
    const entry *found = bsearch(&wanted, words->entries, words->count, sizeof *words->entries, compare_entries);
    return found != NULL ? found->token : UNKNOWN;
}

/*
 * The next character of UTF-8 text in lower case if it belongs to a word ([a-z0-9']), else a space. Two letters beyond
 * ASCII have a lower case that begins in it, in Unicode and so in Python: K (the Kelvin sign) and I with a dot, whose
 * second half, a combining dot, ends the word.
 */
static char next_letter(const char **text)
{
    const char *t = *text;
    *text = t + 1;
    if (t[0] >= 'A' && t[0] <= 'Z')
        return (char)(t[0] - 'A' + 'a');
    if ((t[0] >= 'a' && t[0] <= 'z') || (t[0] >= '0' && t[0] <= '9') || t[0] == '\'')
        return t[0];
    if (strncmp(t, "\xE2\x84\xAA", 3) == 0) {
        *text = t + 3;
        return 'k';
    }
    if (strncmp(t, "\xC4\xB0", 2) == 0)
        return 'i'; /* and the second byte, which is no letter, ends the word as the dot does */
    return ' ';
}

/* The words of a sentence as STEPS tokens: padding on the left, and of a longer sentence its last words. */
static void tokenize(const vocabulary *words, const char *sentence, int32_t ids[STEPS])
{
    char *word = resize(NULL, strlen(sentence) + 1, 1);
    size_t length = 0;

    for (size_t i = 0; i < STEPS; i++)
        ids[i] = PADDING;
    for (bool more = true; more;) {
        char letter = ' ';
        if (*sentence == '\0')
            more = false;
        else
            letter = next_letter(&sentence);
        if (letter != ' ') {
            word[length++] = letter;
        } else if (length > 0) {
            word[length] = '\0';
            length = 0;
            memmove(ids, ids + 1, (STEPS - 1) * sizeof *ids);
            ids[STEPS - 1] = token_of(words, word);
        }
    }
    free(word);
}

/* --- rows --- */

typedef struct {
    int32_t *ids; /* [count, STEPS] */
    float *labels; /* 1 is praise, 0 is a slating */
    size_t count, room;
} rows;

/* Rows are id, rating, text; every fifth id is for testing, ratings near 0 are left out. Either may be NULL. */
static void read_reviews(const vocabulary *words, rows *training, rows *test)
{
    const char *path = DATA_DIR "/movie_reviews.tsv";
    FILE *file = open_data(path);
    char *line = NULL;
    size_t capacity = 0;

    read_line(file, &line, &capacity); /* the names of the columns */
    while (read_line(file, &line, &capacity)) {
        char *text;
        rows *to = strtol(line, &text, 10) % 5 == 0 ? test : training;
        double rating = strtod(text, &text);
        if (*text != '\t')
            fail(path, "a line is not id, rating and text with tabs between them");
        if (to == NULL || fabs(rating) < 0.2)
            continue;
        if (to->count == to->room) {
            to->room = to->room == 0 ? 1024 : 2 * to->room;
            to->ids = resize(to->ids, to->room, STEPS * sizeof *to->ids);
            to->labels = resize(to->labels, to->room, sizeof *to->labels);
        }
        tokenize(words, text + 1, to->ids + to->count * STEPS);
        to->labels[to->count++] = rating > 0 ? 1.0f : 0.0f;
    }
    free(line);
    fclose(file);
    if ((training != NULL && training->count == 0) || (test != NULL && test->count == 0))
        fail(path, "rows are missing");
}

static void free_rows(rows *some)
{
    free(some->ids);
    free(some->labels);
}

#endif
