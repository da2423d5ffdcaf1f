/*
 * Scores sentences with a network that Keras has trained: 1 is praise, 0 is a slating.
 *
 *     sentiment                         the test sentences of the data, against Keras's own predictions;
 *                                       then standard input, one sentence a line, unless it is a terminal
 *     sentiment "What a lovely film."   the same, then the sentences given; "-" stands for standard input
 *
 * Data (DATA_DIR, data/ unless the compiler was told otherwise): the network, its vocabulary, the sentences and Keras's
 * predictions; train_keras.py beside them says how they came about.
 */
#define _POSIX_C_SOURCE 200809L

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "elman.h"

#ifndef DATA_DIR
#define DATA_DIR "data"
#endif

enum { STEPS = 80, BATCH = 64, PADDING = 0, UNKNOWN = 1 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "sentiment: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK)
        fail(elman_status_name(status), elman_last_error());
}

/* Room for `count` elements: realloc that ends the program rather than failing. */
static void *resize(void *old, size_t count, size_t size)
{
    void *memory = count <= SIZE_MAX / size ? realloc(old, count * size) : NULL;
    if (memory == NULL)
        fail("memory", "there is not enough");
    return memory;
}

/* The next line without its line break, in a buffer that grows with it; false at the end. */
static bool read_line(FILE *file, char **line, size_t *capacity)
{
    ssize_t length = getline(line, capacity, file);
    if (length < 0) {
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

static FILE *open_data(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail(path, "cannot be read");
    return file;
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
static vocabulary load_vocabulary(const char *path)
{
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

/* --- the network --- */

/* One score for each of `rows` rows of STEPS tokens. */
static void predict(const elman_sequential *network, const int32_t *ids, size_t rows, float *scores)
{
    for (size_t first = 0; first < rows; first += BATCH) {
        size_t batch = rows - first < BATCH ? rows - first : BATCH;
        check(elman_sequential_predict_tokens(network, ids + first * STEPS, batch * STEPS, batch, STEPS, scores + first,
                                              batch));
    }
}

static void score(const elman_sequential *network, const vocabulary *words, const char *sentence)
{
    int32_t ids[STEPS];
    float result;
    tokenize(words, sentence, ids);
    predict(network, ids, 1, &result);
    printf("%.4f\t%s\n", (double)result, sentence);
}

static void score_lines(const elman_sequential *network, const vocabulary *words, FILE *file)
{
    char *line = NULL;
    size_t capacity = 0;
    while (read_line(file, &line, &capacity))
        score(network, words, line);
    free(line);
}

/* --- the test sentences --- */

typedef struct {
    int32_t *ids; /* [count, STEPS] */
    bool *praise;
    size_t count;
} test_set;

/* Rows are id, rating, text; every fifth id is for testing, ratings near 0 are left out. */
static test_set load_test_set(const char *path, const vocabulary *words)
{
    test_set set = {NULL, NULL, 0};
    FILE *file = open_data(path);
    char *line = NULL;
    size_t capacity = 0, room = 0;

    read_line(file, &line, &capacity); /* the names of the columns */
    while (read_line(file, &line, &capacity)) {
        char *end, *text;
        long id = strtol(line, &end, 10);
        double rating = strtod(end, &end);
        text = end;
        if (*text != '\t')
            fail(path, "a line is not id, rating and text with tabs between them");
        if (id % 5 != 0 || fabs(rating) < 0.2)
            continue;
        if (set.count == room) {
            room = room == 0 ? 1024 : 2 * room;
            set.ids = resize(set.ids, room, STEPS * sizeof *set.ids);
            set.praise = resize(set.praise, room, sizeof *set.praise);
        }
        tokenize(words, text + 1, set.ids + set.count * STEPS);
        set.praise[set.count++] = rating > 0;
    }
    free(line);
    fclose(file);
    if (set.count == 0)
        fail(path, "no test sentences");
    return set;
}

/* The largest difference between our scores and Keras's, one a line in the order of the test sentences. */
static double largest_difference(const char *path, const float *scores, size_t count)
{
    FILE *file = open_data(path);
    char *line = NULL;
    size_t capacity = 0, lines = 0;
    double largest = 0;

    for (; read_line(file, &line, &capacity); lines++) {
        if (lines < count) {
            double difference = fabs(strtod(line, NULL) - (double)scores[lines]);
            if (!(difference <= largest)) /* a NaN counts too */
                largest = difference;
        }
    }
    free(line);
    fclose(file);
    if (lines != count)
        fail(path, "not one prediction for each test sentence");
    return largest;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void score_test_set(const elman_sequential *network, const vocabulary *words)
{
    test_set set = load_test_set(DATA_DIR "/movie_reviews.tsv", words);
    float *scores = resize(NULL, set.count, sizeof *scores);
    size_t right = 0;
    double time;

    predict(network, set.ids, set.count < BATCH ? set.count : BATCH, scores); /* caches and clocks warm up */
    time = -seconds();
    predict(network, set.ids, set.count, scores);
    time += seconds();

    for (size_t i = 0; i < set.count; i++)
        right += (scores[i] > 0.5f) == set.praise[i];
    printf("accuracy: %.4f\n", (double)right / (double)set.count);
    printf("largest difference from Keras: %.1e\n",
           largest_difference(DATA_DIR "/keras_predictions.txt", scores, set.count));
    printf("sentences per second: %.0f\n", (double)set.count / time);

    free(scores);
    free(set.praise);
    free(set.ids);
}

int main(int argc, char **argv)
{
    elman_sequential *network;
    vocabulary words = load_vocabulary(DATA_DIR "/vocabulary.txt");

    check(elman_sequential_load(DATA_DIR "/sentiment.safetensors", &network));
    score_test_set(network, &words);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-") == 0)
            score_lines(network, &words, stdin);
        else
            score(network, &words, argv[i]);
    }
    if (argc == 1 && !isatty(STDIN_FILENO))
        score_lines(network, &words, stdin);

    elman_sequential_free(network);
    free_vocabulary(&words);
    return EXIT_SUCCESS;
}
