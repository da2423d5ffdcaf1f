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

#include <time.h>
#include <unistd.h>

#include "elman.h"
#include "reviews.h"

enum { BATCH = 64 };

static void check(elman_status status)
{
    if (status != ELMAN_STATUS_OK)
        fail(elman_status_name(status), elman_last_error());
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
    rows set = {NULL, NULL, 0, 0};
    float *scores;
    size_t right = 0;
    double time;

    read_reviews(words, NULL, &set);
    scores = resize(NULL, set.count, sizeof *scores);
    predict(network, set.ids, set.count < BATCH ? set.count : BATCH, scores); /* caches and clocks warm up */
    time = -seconds();
    predict(network, set.ids, set.count, scores);
    time += seconds();

    for (size_t i = 0; i < set.count; i++)
        right += (scores[i] > 0.5f) == (set.labels[i] > 0.5f);
    printf("accuracy: %.4f\n", (double)right / (double)set.count);
    printf("largest difference from Keras: %.1e\n",
           largest_difference(DATA_DIR "/keras_predictions.txt", scores, set.count));
    printf("sentences per second: %.0f\n", (double)set.count / time);

    free(scores);
    free_rows(&set);
}

int main(int argc, char **argv)
{
    elman_sequential *network;
    vocabulary words = load_vocabulary();

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
